import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease } from "../../src/index.ts"

/** Makes a backing as one wrote it for 0.0.11: boolean answers, no line, no tokens. A release notifies every waiter. */
const make = (push: boolean) => {
  const holds = new Map<string, number>()
  const listeners = new Set<() => void>()
  const asked: Array<string> = []
  const count = () => Array.from(holds.values()).reduce((sum, permits) => sum + permits, 0)
  const layer = Layer.succeed(DistributedSemaphoreBacking, {
    tryAcquire: (_key: string, holderId: string, _ttl: Duration.Duration, limit: number, permits: number) =>
      Effect.sync(() => {
        asked.push(holderId)
        if (holds.has(holderId)) return true
        if (count() + permits > limit) return false
        holds.set(holderId, permits)
        return true
      }),
    release: (_key: string, holderId: string, permits: number) =>
      Effect.sync(() => {
        if (!holds.delete(holderId)) return 0
        listeners.forEach((notify) => notify())
        return permits
      }),
    refresh: (_key: string, holderId: string) => Effect.sync(() => holds.has(holderId)),
    getCount: () => Effect.sync(count),
    onPermitsReleased: push
      ? () =>
        Stream.callback<void>((queue) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const notify = () => Queue.offerUnsafe(queue, undefined)
              listeners.add(notify)
              return notify
            }),
            (notify) => Effect.sync(() => listeners.delete(notify))
          )
        )
      : undefined
  })
  return { layer, asked, listeners }
}

describe("a backing with boolean answers", () => {
  it.effect("is polled every acquireRetryInterval", () => {
    const { asked, layer } = make(false)
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { acquireRetryInterval: "50 millis" })
      yield* Effect.forkScoped(semaphore.withPermits(1)(Effect.sleep("1 second")), { startImmediately: true })
      const waiter = yield* Effect.forkScoped(semaphore.withPermits(1, { identifier: "waiter" })(Effect.void), {
        startImmediately: true
      })
      yield* TestClock.adjust("999 millis")
      expect(asked.filter((id) => id === "waiter")).toHaveLength(20)
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(waiter)
    }).pipe(Effect.provide(layer))
  })

  it.effect("wakes its waiters if it notifies, through one subscription that closes a minute after the last of them", () => {
    const { layer, listeners } = make(true)
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { acquireRetryInterval: "1 hour" })
      yield* Effect.forkScoped(semaphore.withPermits(1)(Effect.sleep("1 second")), { startImmediately: true })
      const waiter = Effect.forkScoped(semaphore.withPermits(1)(Effect.void), { startImmediately: true })
      const waiters = [yield* waiter, yield* waiter]
      yield* TestClock.adjust("1 second")
      yield* Fiber.joinAll(waiters)
      expect(listeners.size).toBe(1)
      yield* TestClock.adjust("1 minute")
      expect(listeners.size).toBe(0)
    }).pipe(Effect.provide(layer))
  })

  it.effect("gives leases without a token, resumes holds, and can't be inspected", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      const lease = yield* semaphore.takeLease(2, { identifier: "me" })
      expect(lease.fencingToken).toEqual(Option.none())
      const again = Lease.pipe(semaphore.withPermitsIfAvailable(2, { identifier: "me", acquiredExternally: true }))
      expect(Option.isSome(yield* again)).toBe(true)
      expect(yield* Effect.flip(semaphore.inspect)).toMatchObject({ operation: "inspect" })
    }).pipe(Effect.provide(make(false).layer)))
})
