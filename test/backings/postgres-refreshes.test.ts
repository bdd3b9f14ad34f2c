/** Refreshes share statements, and no hold pays for another's ttl. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Option, Schedule } from "effect"
import { inject } from "vitest"
import { DistributedSemaphore, DistributedSemaphoreBacking } from "../../src/index.ts"
import { buildOn, freshName } from "../utils/postgres.ts"

const build = buildOn(inject("postgresUrl"))

describe("refreshes", () => {
  it.live("that come alone are sent at once, and those that come together soon, whatever their ttl", () =>
    Effect.gen(function*() {
      const { context } = yield* build()
      const backing = Context.get(context, DistributedSemaphoreBacking)
      const ttls = ["1 day", "1 hour", "3 seconds", "2 seconds", "1 second"] as const
      const holds = ttls.map((ttl) => ({ key: freshName(), ttl: Duration.fromInputUnsafe(ttl) }))
      for (const { key, ttl } of holds) yield* backing.tryAcquire(key, "a", ttl, 1, 1)
      const [alone] = yield* Effect.timed(backing.refresh(holds[0]!.key, "a", holds[0]!.ttl, 1, 1))
      expect(Duration.toMillis(alone)).toBeLessThan(100)
      for (let round = 0; round < 3; round++) {
        const times = yield* Effect.forEach(
          holds,
          ({ key, ttl }) => Effect.timed(backing.refresh(key, "a", ttl, 1, 1)),
          { concurrency: "unbounded" }
        )
        for (const [duration, answer] of times) {
          expect(answer).toMatchObject({ _tag: "Acquired" })
          expect(Duration.toMillis(duration)).toBeLessThan(300)
        }
      }
    }))

  it.live("of holds with a ttl above and below 2^31 milliseconds succeed together", () =>
    Effect.gen(function*() {
      const { context } = yield* build()
      const backing = Context.get(context, DistributedSemaphoreBacking)
      const ttls = ["1 minute", "25 days", "1 hour", "36500 days"] as const
      const holds = ttls.map((ttl) => ({ key: freshName(), ttl: Duration.fromInputUnsafe(ttl) }))
      for (const { key, ttl } of holds) yield* backing.tryAcquire(key, "a", ttl, 1, 1)
      for (let round = 0; round < 2; round++) {
        const answers = yield* Effect.forEach(holds, ({ key, ttl }) => backing.refresh(key, "a", ttl, 1, 1), {
          concurrency: "unbounded"
        })
        for (const answer of answers) expect(answer).toMatchObject({ _tag: "Acquired" })
      }
    }))

  it.live("and acquires work with limits and numbers of permits as large as an integer can be", () =>
    Effect.gen(function*() {
      const { context } = yield* build()
      for (const limit of [2 ** 31 - 1, 2 ** 31, Number.MAX_SAFE_INTEGER]) {
        const semaphore = yield* Effect.provide(
          DistributedSemaphore.make(freshName(), { limit, ttl: "25 days" }),
          context
        )
        yield* Effect.scoped(Effect.gen(function*() {
          yield* semaphore.take(limit - 1)
          expect(yield* semaphore.currentCount).toBe(limit - 1)
          expect(Option.isNone(yield* semaphore.tryTake(2))).toBe(true)
        }))
        expect(yield* semaphore.currentCount).toBe(0)
      }
    }))
})

/** They wait more than they work. */
describe("while nothing happens, refreshes", { concurrent: true }, () => {
  it.live("of a hold with a ttl of a day delay none of holds with a ttl of three seconds", () =>
    Effect.gen(function*() {
      const { context } = yield* build()
      const long = yield* Effect.provide(
        DistributedSemaphore.make(freshName(), { ttl: "1 day", refreshInterval: "300 millis" }),
        context
      )
      const short = yield* Effect.provide(
        DistributedSemaphore.make(freshName(), { limit: 5, ttl: "3 seconds" }),
        context
      )
      const longLease = yield* long.takeLease(1)
      const leases = yield* Effect.forEach([1, 2, 3, 4, 5], () => short.takeLease(1))
      yield* Effect.sleep("6 seconds")
      for (const { keepAlive } of [longLease, ...leases]) expect(keepAlive.pollUnsafe()).toBeUndefined()
      expect(yield* short.currentCount).toBe(5)
    }))

  it.live("of 600 holds with a ttl of an hour are answered within the time limit of one attempt", () =>
    Effect.gen(function*() {
      const { context } = yield* build()
      const semaphore = yield* Effect.provide(
        DistributedSemaphore.make(freshName(), {
          limit: 600,
          ttl: "1 hour",
          refreshInterval: "3 seconds",
          backingFailureRetryPolicy: Schedule.recurs(0)
        }),
        context
      )
      const leases = yield* Effect.forEach(Array.from({ length: 600 }), () => semaphore.takeLease(1), {
        concurrency: "unbounded"
      })
      yield* Effect.sleep("10 seconds")
      expect(leases.filter(({ keepAlive }) => keepAlive.pollUnsafe() === undefined)).toHaveLength(600)
      // The store has refreshed each of them lately.
      const { holders } = yield* semaphore.inspect
      expect(holders).toHaveLength(600)
      for (const { remaining } of holders) {
        expect(Duration.toMillis(remaining)).toBeGreaterThan(Duration.toMillis("1 hour") - 5000)
      }
    }))
})
