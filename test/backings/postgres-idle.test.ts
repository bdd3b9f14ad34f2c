/** What holds and waiters cost PostgreSQL while nothing happens, counted by pg_stat_statements. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import { connections } from "../utils/postgres.ts"
import { counted } from "../utils/postgresCounted.ts"
import { until } from "../utils/until.ts"

/** Holds the permit, and lets a thousand wait for it. */
const thousandWaiters = Effect.fnUntraced(function*(mutex: DistributedSemaphore.DistributedSemaphore) {
  yield* mutex.take(1)
  const waiters = yield* Effect.forEach(
    Array.from({ length: 1000 }),
    () => Effect.forkScoped(mutex.withPermits(1)(Effect.void))
  )
  yield* until(
    Effect.map(mutex.inspect, ({ line }) => line.length === 1000),
    "30 seconds"
  )
  return waiters
})

/** They wait more than they work, each with a server of its own. */
describe("the cost while nothing happens", { concurrent: true }, () => {
  it.live(
    "of a thousand waiters with a ttl of 30 seconds is at most two statements a second",
    () =>
      Effect.gen(function*() {
        const { calls, context, reset } = yield* counted
        const mutex = yield* Effect.provide(DistributedSemaphore.make("key"), context)
        const waiters = yield* thousandWaiters(mutex)
        yield* Effect.sleep("1 second")
        yield* reset
        // Each renews its place once, and the first in line looks each second.
        const seconds = 11
        yield* Effect.sleep(`${seconds} seconds`)
        const { operate = 0 } = yield* calls
        expect(operate).toBeGreaterThanOrEqual(1000 / 200)
        expect(operate).toBeLessThanOrEqual(2 * seconds)
        yield* Fiber.interruptAll(waiters)
      }),
    90_000
  )

  it.live(
    "of a thousand waiters of one process is no more connections than the pool has",
    () =>
      Effect.gen(function*() {
        const { context, observer } = yield* counted
        const mutex = yield* Effect.provide(DistributedSemaphore.make("key", { ttl: "1 minute" }), context)
        const waiters = yield* thousandWaiters(mutex)
        // Ten of the pool, and one of the client that has set up the server.
        expect(yield* connections(observer)).toBeLessThanOrEqual(11)
        yield* Fiber.interruptAll(waiters)
      }),
    90_000
  )

  it.live(
    "of a thousand holds is at most twenty statements per refreshInterval, which update rows in place",
    () =>
      Effect.gen(function*() {
        const { calls, context, observer, reset } = yield* counted
        const semaphore = yield* Effect.provide(
          DistributedSemaphore.make("key", { limit: 1000, ttl: "12 seconds", refreshInterval: "4 seconds" }),
          context
        )
        const holders = yield* Effect.forEach(Array.from({ length: 1000 }), () => semaphore.take(1), {
          concurrency: "unbounded"
        })
        yield* reset
        // Three intervals and a half, so that the third refresh may be a little late.
        yield* Effect.sleep("14 seconds")
        const { operate = 0 } = yield* calls
        expect(operate).toBeGreaterThanOrEqual(3 * 1000 / 200)
        expect(operate).toBeLessThanOrEqual(3.5 * 20)
        expect(holders.filter((keepAlive) => keepAlive.pollUnsafe() !== undefined)).toEqual([])
        expect(yield* semaphore.currentCount).toBe(1000)
        // The server's processes report counts once a second, and only when they are used: so all ten are used.
        yield* Effect.sleep("1500 millis")
        yield* Effect.all(Array.from({ length: 10 }, () => semaphore.currentCount), { concurrency: "unbounded" })
        const [updates] = yield* observer<{ all: bigint; hot: bigint }>`
        select n_tup_upd as all, n_tup_hot_upd as hot from pg_stat_user_tables where relname = 'contenders'
      `
        expect(Number(updates!.all)).toBeGreaterThanOrEqual(3000)
        expect(Number(updates!.hot) / Number(updates!.all)).toBeGreaterThan(0.8)
      }),
    90_000
  )
})
