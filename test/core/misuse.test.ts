import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import type { Call } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"

type Config = DistributedSemaphore.DistributedSemaphoreConfig

const configs: ReadonlyArray<readonly [message: string, config: Config]> = [
  ["limit is 0, but must be a positive integer", { limit: 0 }],
  ["limit is -1, but must be a positive integer", { limit: -1 }],
  ["limit is 1.5, but must be a positive integer", { limit: 1.5 }],
  ["limit is NaN, but must be a positive integer", { limit: Number.NaN }],
  ["ttl is \"0 millis\", but must be a positive, finite duration", { ttl: "0 millis" }],
  ["ttl is -1, but must be a positive, finite duration", { ttl: -1 }],
  ["ttl is Infinity, but must be a positive, finite duration", { ttl: Number.POSITIVE_INFINITY }],
  ["ttl is \"soon\", but must be a positive, finite duration", { ttl: "soon" as never }],
  ["refreshInterval is \"10 seconds\", but must be below the ttl of 10s", {
    ttl: "10 seconds",
    refreshInterval: "10 seconds"
  }],
  ["ttl is {}, but must be a positive, finite duration", { ttl: Object.create(null) }],
  ["ttl is [object Object], but must be a positive, finite duration", { ttl: { toString: () => ({}) } as never }],
  ["ttl is Symbol(soon), but must be a positive, finite duration", { ttl: Symbol("soon") as never }],
  ["limit is {}, but must be a positive integer", { limit: Object.create(null) }],
  ["refreshInterval is 0, but must be a positive, finite duration", { refreshInterval: 0 }],
  ["acquireRetryInterval is 0, but must be a positive, finite duration", { acquireRetryInterval: 0 }]
]

const acquisitions: ReadonlyArray<
  readonly [message: string, permits: number, options?: DistributedSemaphore.AcquireOptions]
> = [
  ["permits is 0, but must be a positive integer", 0],
  ["permits is 0.5, but must be a positive integer", 0.5],
  ["permits is 4, but must be at most the limit of 3", 4],
  ["permits is {}, but must be a positive integer", Object.create(null)],
  ["identifier is {}, but must be a non-empty string", 1, { identifier: Object.create(null) }],
  ["identifier is \"\", but must be a non-empty string", 1, { identifier: "" }],
  ["identifier is undefined, but must be given with acquiredExternally: it names the hold", 1, {
    acquiredExternally: true
  }]
]

const expectRefusal = (exit: Exit.Exit<unknown, unknown>, message: string) => {
  const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  expect(Exit.hasDies(exit)).toBe(true)
  expect(Cause.isIllegalArgumentError(defect)).toBe(true)
  expect((defect as Cause.IllegalArgumentError).message).toBe(message)
}

describe("misuse dies, says what is allowed, and touches no store:", () => {
  const calls: Array<Call> = []
  const provided = Effect.provide(FakeBacking.layer(calls))

  it.effect("key is \"\"", () =>
    Effect.gen(function*() {
      expectRefusal(yield* Effect.exit(DistributedSemaphore.make("")), "key is \"\", but must be a non-empty string")
    }).pipe(provided))

  it.effect.each(configs)("%s", ([message, config]) =>
    Effect.gen(function*() {
      expectRefusal(yield* Effect.exit(DistributedSemaphore.make("key", config)), message)
      expect(calls).toEqual([])
    }).pipe(provided))

  it.effect.each(acquisitions)("%s", ([message, permits, options]) =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 3 })
      for (
        const acquire of [
          semaphore.take(permits, options),
          semaphore.tryTake(permits, options),
          semaphore.takeLease(permits, options),
          semaphore.withPermits(permits, options)(Effect.void),
          semaphore.withPermitsIfAvailable(permits, options)(Effect.void)
        ]
      ) {
        expectRefusal(yield* Effect.exit(acquire), message)
      }
      expect(calls).toEqual([])
    }).pipe(provided))
})
