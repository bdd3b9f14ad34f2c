import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import { readFileSync } from "node:fs"
import { inject } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease } from "../../src/index.ts"
import { client, connect } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

let fresh = 0
const freshName = () => `test_${process.pid}_${fresh++}`

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

/** The backing over a client; both, so that a test can use the client too. */
const build = (options: PostgresBacking.PostgresBackingOptions = {}, pool: Parameters<typeof client>[1] = {}) =>
  Effect.gen(function*() {
    const sql = yield* connect(url, pool)
    const context = yield* Layer.build(
      PostgresBacking.layer(options).pipe(Layer.provide(Layer.succeed(PgClient.PgClient, sql)))
    )
    return { sql, context, backing: Context.get(context, DistributedSemaphoreBacking) }
  })

describe("the schema", () => {
  it.live("is created once, by ten processes that start at once against an empty database", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const backings = yield* Effect.forEach(Array.from({ length: 10 }), () => build({ schema }), { concurrency: 10 })
      const answers = yield* Effect.forEach(
        backings,
        ({ backing }, index) => backing.tryAcquire("key", `holder ${index}`, minute, 3, 1),
        { concurrency: 10 }
      )
      expect(answers.filter((answer) => answer !== false)).toHaveLength(3)
      const rows = yield* backings[0]!.sql.unsafe(`select id from "${schema}".migrations`)
      expect(rows).toEqual([{ id: 1 }])
    }))

  it.live("that is missing, or too new, is one clear error when the layer is built", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const missing = yield* Effect.flip(build({ schema, migrate: false }))
      expect(missing).toMatchObject({ _tag: "SemaphoreBackingError", operation: "migrate" })
      expect(String(missing)).toContain(`there is no schema ${schema}: run its migrations`)

      const { sql } = yield* build({ schema })
      yield* sql.unsafe(`insert into "${schema}".migrations (id, name) values (99, 'of the future')`)
      expect(String(yield* Effect.flip(build({ schema })))).toContain(
        "has version 99, and this package needs version 1"
      )
    }))

  it.live("can be created by hand, for a role that may only execute its functions", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const role = freshName()
      const owner = yield* connect(url)
      yield* owner.unsafe(`create schema "${schema}"`)
      yield* owner.unsafe(`create table "${schema}".migrations (id integer primary key, name text not null)`)
      for (const { id, name, statements } of PostgresBacking.migrations(schema)) {
        for (const statement of statements) yield* owner.unsafe(statement)
        yield* owner.unsafe(`insert into "${schema}".migrations (id, name) values ($1, $2)`, [id, name])
      }
      yield* owner.unsafe(`create role ${role} login`)
      yield* owner.unsafe(`grant usage on schema "${schema}" to ${role}`)

      const { backing, sql } = yield* build({ schema, migrate: false }, { username: role })
      yield* Effect.flip(sql.unsafe(`select * from "${schema}".holds`))
      expect(yield* backing.tryAcquire("key", "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.tryAcquire("key", "b", minute, 1, 1, { queue: true })).toMatchObject({ _tag: "Waiting" })
      expect(yield* backing.refresh("key", "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.getCount("key", minute)).toBe(1)
      expect((yield* backing.inspect!("key")).line).toHaveLength(1)
      expect(yield* backing.release("key", "a", 1)).toBe(1)
    }))

  it.live("may have any name, and is different from others", () =>
    Effect.gen(function*() {
      const one = yield* build({ schema: `${freshName()} "'; $1 é` })
      const other = yield* build({ schema: freshName() })
      for (const { context } of [one, other]) {
        yield* Effect.gen(function*() {
          const mutex = yield* DistributedSemaphore.make("key", { ttl: minute })
          const holder = yield* Scope.make()
          yield* Scope.provide(mutex.take(1), holder)
          const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.void))
          yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1))
          yield* Scope.close(holder, Exit.void)
          // By notification: the first in line would look after a second.
          yield* Effect.timeout(Fiber.join(waiter), "900 millis")
        }).pipe(Effect.provide(context))
      }
    }))
})

describe("a transaction of the caller's", () => {
  it.live("is not joined: what is done inside is visible at once, survives the rollback, and locks nothing", () =>
    Effect.gen(function*() {
      const { backing, sql } = yield* build()
      const other = yield* build()
      const key = freshName()
      const rolledBack = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
        yield* sql`select 1`
        expect(yield* backing.tryAcquire(key, "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
        // Others see it, and are not kept waiting.
        const asked = other.backing.tryAcquire(key, "b", minute, 1, 1)
        expect(yield* Effect.timeout(asked, "2 seconds")).toBe(false)
        expect(yield* other.backing.getCount(key, minute)).toBe(1)
        return yield* Effect.fail("rollback")
      })))
      expect(Exit.isFailure(rolledBack)).toBe(true)
      expect(yield* other.backing.getCount(key, minute)).toBe(1)
      expect(yield* backing.refresh(key, "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
    }))

  it.live("withPermits inside one releases although it is rolled back", () =>
    Effect.gen(function*() {
      const { context, sql } = yield* build()
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make(freshName(), { ttl: minute })
        const work = Effect.andThen(sql`select 1`, Effect.fail("rollback"))
        yield* Effect.exit(sql.withTransaction(mutex.withPermits(1)(work)))
        expect(yield* mutex.currentCount).toBe(0)
      }).pipe(Effect.provide(context))
    }))
})

describe("sessions of another kind", () => {
  it.live.each(["repeatable read", "serializable"])(
    "that default to %s are refused with a clear error",
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
      yield* owner.unsafe(
        `create table ${hostile}.holds (key bytea, holder bytea, permits bigint, expires timestamptz)`
      )
      yield* owner.unsafe(`create table ${hostile}.places (key bytea)`)
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

  it.live("client options that rename columns, or prepare nothing, or pipeline change nothing", () =>
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
    "of %d, with push %s, are enough for forty workers",
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
          expect(yield* semaphore.inspect).toEqual({ holders: [], line: [] })
        }).pipe(Effect.timeout("20 seconds"), Effect.provide(context))
      })
  )

  it.live("that are taken by the caller's transactions delay, and fail in time", () =>
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
  it.live("a client of its own to listen with: the pool needs no connection for that", () =>
    Effect.gen(function*() {
      const listenClient = yield* connect(url, { maxConnections: 1 })
      const { context } = yield* build({ listenClient }, { maxConnections: 1, prepare: false })
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make(freshName(), { ttl: minute })
        const holder = yield* Scope.make()
        yield* Scope.provide(mutex.take(1), holder)
        const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.void))
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1))
        yield* Effect.sleep("100 millis")
        yield* Scope.close(holder, Exit.void)
        // By notification: the first in line would look after a second.
        yield* Effect.timeout(Fiber.join(waiter), "700 millis")
      }).pipe(Effect.provide(context))
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
      expect(yield* sql.unsafe(`select id from "${schema}".migrations`)).toEqual([{ id: 1 }])
    }))
})

it("docs/postgres.sql is what the migrations run", () => {
  const file = new URL("../../docs/postgres.sql", import.meta.url)
  const text = readFileSync(file, "utf8")
  for (const { id, name, statements } of PostgresBacking.migrations("effect_distributed_lock")) {
    for (const statement of statements) expect(text).toContain(`${statement};\n`)
    expect(text).toContain(`values (${id}, '${name}');\n`)
  }
})
