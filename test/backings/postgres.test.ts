import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import { inject } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease } from "../../src/index.ts"
import { buildOn, connect, freshName } from "../utils/postgres.ts"
import { inBoth } from "../utils/twoProcesses.ts"
import { until } from "../utils/until.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

const build = buildOn(url)

describe("sessions", () => {
  it.live.each(["repeatable read", "serializable"])(
    "whose default isolation level is %s are refused with a clear error",
    (isolation) =>
      Effect.gen(function*() {
        yield* build()
        const startupParameters = { default_transaction_isolation: isolation }
        const error = yield* Effect.flip(build({}, { startupParameters }))
        expect(String(error)).toContain("semaphores need the isolation level READ COMMITTED")
      })
  )

  it.live("whose search path has tables and functions of the same names are not misled", () =>
    Effect.gen(function*() {
      const owner = yield* connect(url)
      const hostile = freshName()
      yield* owner.unsafe(`create schema ${hostile}`)
      yield* owner.unsafe(`create table ${hostile}.semaphores (key bytea primary key)`)
      yield* owner.unsafe(`create table ${hostile}.contenders (semaphore bigint, holder bytea)`)
      yield* owner.unsafe(`create sequence ${hostile}.tokens minvalue -9 maxvalue -1 cycle`)
      yield* owner.unsafe(
        `create function ${hostile}.check_isolation() returns void language sql as $$ select 1 / 0 $$`
      )
      yield* owner.unsafe(
        `create function ${hostile}.clock_timestamp() returns timestamptz language sql as $$ select '-infinity'::timestamptz $$`
      )
      yield* owner.unsafe(
        `create function ${hostile}.sha256(bytea) returns bytea language sql as $$ select '\\x00'::bytea $$`
      )
      const startupParameters = { search_path: `${hostile}, pg_catalog` }
      const { backing } = yield* build({ schema: freshName() }, { startupParameters })
      expect(yield* backing.tryAcquire("a", "x", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.tryAcquire("a", "y", minute, 1, 1)).toBe(false)
      expect(yield* backing.tryAcquire("b", "x", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.getCount("a", minute)).toBe(1)
    }))

  it.live("of clients that rename columns, prepare nothing, or pipeline work like any other", () =>
    Effect.gen(function*() {
      const upper = (name: string) => name.toUpperCase()
      for (
        const pool of [
          { transformResultNames: upper, transformQueryNames: upper },
          { prepare: false },
          { multiplex: true }
        ]
      ) {
        const { backing } = yield* build({ schema: freshName() }, pool)
        expect(yield* backing.tryAcquire("a", "x", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
        expect(yield* backing.refresh("a", "x", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
        expect((yield* backing.inspect!("a")).holders).toMatchObject([{ identifier: "x", permits: 1 }])
        expect(yield* backing.release("a", "x", 1)).toBe(1)
      }
    }))
})

describe("the smallest pools", () => {
  it.live.each([[1, false], [2, true]] as const)(
    "of %d connections, with push %s, are enough for forty workers",
    ([maxConnections, push]) =>
      Effect.gen(function*() {
        const { context } = yield* build({ pushBasedAcquireEnabled: push }, { maxConnections })
        yield* Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make(freshName(), { limit: 2, ttl: minute })
          const tokens: Array<bigint> = []
          const work = Effect.gen(function*() {
            tokens.push(Option.getOrThrow((yield* Lease).fencingToken))
            expect(yield* semaphore.currentCount).toBeLessThanOrEqual(2)
          })
          yield* Effect.all(Array.from({ length: 40 }, () => semaphore.withPermits(1)(work)), {
            concurrency: "unbounded"
          })
          expect(new Set(tokens).size).toBe(40)
          expect(yield* semaphore.inspect).toMatchObject({ holderCount: 0, waiterCount: 0 })
        }).pipe(Effect.timeout("20 seconds"), Effect.provide(context))
      })
  )

  it.live("whose only connection a transaction of the caller has make operations fail in time, and work again after it", () =>
    Effect.gen(function*() {
      const { context, sql } = yield* build({ pushBasedAcquireEnabled: false }, { maxConnections: 1 })
      const begun = yield* Deferred.make<void>()
      const done = yield* Deferred.make<void>()
      const transaction = yield* Effect.forkScoped(
        sql.withTransaction(Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(done)))
      )
      yield* Deferred.await(begun)
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make(freshName(), { ttl: "2 seconds" })
        const error = yield* Effect.flip(Effect.timeout(mutex.withPermits(1)(Effect.void), "10 seconds"))
        expect(error).toMatchObject({ _tag: "SemaphoreBackingError" })
        yield* Deferred.succeed(done, undefined)
        yield* Fiber.join(transaction)
        yield* Effect.timeout(mutex.withPermits(1)(Effect.void), "10 seconds")
      }).pipe(Effect.provide(context))
    }))
})

describe("options", () => {
  it.live("listenClient: the pool needs no connection for notifications", () =>
    Effect.gen(function*() {
      const listenClient = yield* connect(url, { maxConnections: 1 })
      const here = yield* build()
      const there = yield* build({ listenClient }, { maxConnections: 1, prepare: false })
      const [held, awaited] = yield* inBoth([here.context, there.context], freshName(), { ttl: minute })
      const holder = yield* Scope.make()
      yield* Scope.provide(held.take(1), holder)
      const waiter = yield* Effect.forkScoped(awaited.withPermits(1)(Effect.void))
      yield* until(Effect.map(held.inspect, ({ line }) => line.length === 1))
      yield* Effect.sleep("100 millis")
      yield* Scope.close(holder, Exit.void)
      // By a notification: without one, the first in line would look after a second.
      yield* Effect.timeout(Fiber.join(waiter), "700 millis")
    }))

  it.live("can be read from the configuration", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const sql = yield* connect(url)
      const config = { schema: Config.String("SEMAPHORES"), pushBasedAcquireEnabled: Config.Boolean("PUSH") }
      const context = yield* Layer.build(
        PostgresBacking.layerConfig(config).pipe(
          Layer.provide(Layer.succeed(PgClient.PgClient, sql)),
          Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ SEMAPHORES: schema, PUSH: "false" })))
        )
      )
      expect(Context.get(context, DistributedSemaphoreBacking).onPermitsReleased).toBeUndefined()
      expect(yield* sql.unsafe(`select id from "${schema}".migrations`)).toEqual([{ id: 1 }, { id: 2 }])
    }))
})
