/** An interruption returns soon, whatever the store does, and leaves nothing behind (L4). */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { DistributedSemaphore, FencingToken } from "../../src/index.ts"
import type { Call, Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

describe("an interruption", () => {
  const interruptAfter = (replace: Replace, calls: Array<Call>) =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "20 seconds" })
      const waiter = yield* Effect.forkScoped(semaphore.withPermits(1, { identifier: "me" })(Effect.never), {
        startImmediately: true
      })
      yield* TestClock.adjust("10 millis")
      const interruption = yield* Effect.forkChild(Fiber.interrupt(waiter), { startImmediately: true })
      yield* TestClock.adjust("500 millis")
      return { semaphore, interrupted: interruption.pollUnsafe() !== undefined }
    }).pipe(Effect.provide(FakeBacking.layer(calls, replace)))

  const hanging: ReadonlyArray<readonly [string, Partial<DistributedSemaphoreBacking>]> = [
    ["an acquire", { tryAcquire: () => FakeBacking.hangs }],
    ["a release", { release: () => FakeBacking.hangs }],
    ["a subscription", {
      tryAcquire: () => Effect.succeed({ _tag: "Waiting" as const, fencingToken: FencingToken(1n), position: 0 }),
      onPermitsReleased: () => Stream.fromEffect(FakeBacking.hangs)
    }]
  ]
  it.effect.each(hanging)(
    "does not wait longer than half a second for %s that never answers",
    ([, members]) =>
      Effect.gen(function*() {
        expect((yield* interruptAfter(() => members, [])).interrupted).toBe(true)
      })
  )

  it.effect("releases the permits that an acquire in flight gets later", () => {
    const calls: Array<Call> = []
    const late: Replace = (real) => ({
      tryAcquire: (...args) => Effect.uninterruptible(Effect.delay(real.tryAcquire(...args), "3 seconds"))
    })
    return Effect.gen(function*() {
      const { semaphore } = yield* interruptAfter(late, calls)
      yield* TestClock.adjust("10 seconds")
      expect(calls.map(({ operation }) => operation)).toEqual(["tryAcquire", "release"])
      expect(yield* semaphore.currentCount).toBe(0)
    })
  })

  it.effect("releases also what an acquire in flight gets for a waiter that had lost its place", () => {
    let asked = 0
    const lastIsUnanswered: Replace = (real) => ({
      tryAcquire: (...args) =>
        ++asked === 3 ? Effect.andThen(real.tryAcquire(...args), Effect.never) : real.tryAcquire(...args)
    })
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      yield* start(semaphore.withPermits(1)(Effect.never))
      const waiter = yield* start(semaphore.withPermits(1, { identifier: "me" })(Effect.never))
      yield* semaphore.revoke("me")
      yield* TestClock.adjust(0)
      expect(asked).toBe(3)
      yield* start(Fiber.interrupt(waiter))
      yield* TestClock.adjust("10 seconds")
      expect((yield* semaphore.inspect).line).toEqual([])
    }).pipe(Effect.provide(FakeBacking.layer([], lastIsUnanswered)))
  })
})
