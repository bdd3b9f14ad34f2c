/** What operations cost PostgreSQL, counted by pg_stat_statements. Each statement outside a transaction is a commit. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, connections, server } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

/** Starts a server that counts statements, a backing over a pool of ten, and an observer that reads the counts. */
const counted = Effect.gen(function*() {
  const postgres = yield* server
  const first = yield* connect(postgres.url)
  yield* first`alter system set shared_preload_libraries = 'pg_stat_statements'`
  yield* Effect.promise(postgres.kill)
  yield* Effect.promise(postgres.restart)
  const observer = yield* connect(postgres.url, { maxConnections: 1, applicationName: "observer" })
  yield* observer`create extension pg_stat_statements`
  const sql = yield* connect(postgres.url)
  const context = yield* Layer.build(PostgresBacking.layer().pipe(Layer.provide(Layer.succeed(PgClient.PgClient, sql))))
  return {
    context,
    observer,
    reset: observer`select pg_stat_statements_reset()`,
    /** Reads how many blocks of tables and indexes the operations have used. */
    blocks: Effect.map(
      observer<{ blocks: bigint }>`
        select sum(shared_blks_hit + shared_blks_read)::bigint as blocks from pg_stat_statements where query like '%operate(%'
      `,
      ([row]) => Number(row!.blocks)
    ),
    /** Reads how often each kind of statement ran, without those of the observer. */
    calls: Effect.map(
      observer<{ query: string; calls: bigint }>`
        select query, calls from pg_stat_statements where query not like '%pg_stat_%' and query not like '%sweep%'
      `,
      (rows) => {
        const calls: Record<string, number> = {}
        for (const { query, calls: count } of rows) {
          const name = /"effect_distributed_lock"\.(\w+)/.exec(query)?.[1] ?? query
          calls[name] = (calls[name] ?? 0) + Number(count)
        }
        return calls
      }
    )
  }
})

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
      yield* cycles(10_000)
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

/** They wait more than they work, each with a server of its own. */
describe("the cost while nothing happens", { concurrent: true }, () => {
  it.live(
    "of a thousand waiters with a ttl of 30 seconds is at most two statements a second",
    () =>
      Effect.gen(function*() {
        const { calls, context, reset } = yield* counted
        const mutex = yield* Effect.provide(DistributedSemaphore.make("key"), context)
        yield* mutex.take(1)
        const waiters = yield* Effect.forEach(
          Array.from({ length: 1000 }),
          () => Effect.forkScoped(mutex.withPermits(1)(Effect.void))
        )
        yield* until(
          Effect.map(mutex.inspect, ({ line }) => line.length === 1000),
          "30 seconds"
        )
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
        yield* mutex.take(1)
        const waiters = yield* Effect.forEach(
          Array.from({ length: 1000 }),
          () => Effect.forkScoped(mutex.withPermits(1)(Effect.void))
        )
        yield* until(
          Effect.map(mutex.inspect, ({ line }) => line.length === 1000),
          "30 seconds"
        )
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
