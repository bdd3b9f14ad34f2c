/** What operations cost PostgreSQL, counted by pg_stat_statements. Each statement outside a transaction is a commit. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import { counted } from "../utils/postgresCounted.ts"
import { until } from "../utils/until.ts"

const sum = (calls: Record<string, number>) => Object.values(calls).reduce((total, count) => total + count, 0)

describe("the cost", () => {
  it.live("of an uncontended cycle is two statements: one to acquire, one to release", () =>
    Effect.gen(function*() {
      const { calls, context, reset } = yield* counted
      const mutex = yield* Effect.provide(DistributedSemaphore.make("key"), context)
      yield* mutex.withPermits(1)(Effect.void)
      yield* reset
      yield* Effect.forEach(Array.from({ length: 50 }), () => mutex.withPermits(1)(Effect.void))
      expect(yield* calls).toEqual({ operate: 100 })
    }))

  it.live("of a cycle on a hot key does not grow with what earlier cycles left for a vacuum", () =>
    Effect.gen(function*() {
      const { blocks, context, reset } = yield* counted
      const mutex = yield* Effect.provide(DistributedSemaphore.make("key"), context)
      const cycles = (times: number) => Effect.repeat(mutex.withPermits(1)(Effect.void), { times: times - 1 })
      const blocksPerCycle = Effect.gen(function*() {
        yield* reset
        yield* cycles(500)
        return (yield* blocks) / 500
      })
      yield* cycles(500)
      const first = yield* blocksPerCycle
      yield* cycles(5000)
      const last = yield* blocksPerCycle
      expect(first).toBeGreaterThan(0)
      expect(last / first).toBeLessThan(1.5)
    }))

  it.live("of a cycle beside 63 others is at most a fifth of a statement, on one key and on many", () =>
    Effect.gen(function*() {
      const { calls, context, reset } = yield* counted
      const cycles = 20
      for (const keys of [1, 64]) {
        const semaphores = yield* Effect.forEach(
          Array.from({ length: 64 }, (_, index) => `${keys} keys, ${index % keys}`),
          (key) => Effect.provide(DistributedSemaphore.make(key, { limit: 64 }), context)
        )
        yield* reset
        yield* Effect.forEach(
          semaphores,
          (semaphore) => Effect.repeat(semaphore.withPermits(1)(Effect.void), { times: cycles - 1 }),
          { concurrency: "unbounded", discard: true }
        )
        const { operate = 0 } = yield* calls
        expect(operate).toBeGreaterThan(0)
        expect(operate / (64 * cycles)).toBeLessThanOrEqual(0.2)
      }
    }))

  it.live("of a hand-off is one statement, with 10, 100 and 300 waiters", () =>
    Effect.gen(function*() {
      const { calls, context, reset } = yield* counted
      for (const size of [10, 100, 300]) {
        const mutex = yield* Effect.provide(DistributedSemaphore.make(`waiters-${size}`, { ttl: "1 minute" }), context)
        const holder = yield* Scope.make()
        yield* Scope.provide(mutex.take(1), holder)
        const waiters = yield* Effect.forEach(Array.from({ length: size }), () =>
          Effect.forkScoped(mutex.withPermits(1)(Effect.void)))
        yield* until(
          Effect.map(mutex.inspect, ({ line }) =>
            line.length === size),
          "20 seconds"
        )
        // By now the waiters listen. Some have looked once more.
        yield* Effect.sleep("300 millis")
        yield* reset
        yield* Scope.close(holder, Exit.void)
        yield* Effect.timeout(Fiber.joinAll(waiters), "20 seconds")
        // One release of the holder, and one of each waiter.
        const count = sum(yield* calls)
        expect(count).toBeGreaterThanOrEqual(size)
        expect(count).toBeLessThan(size + 1 + Math.max(5, size / 10))
      }
    }))
})
