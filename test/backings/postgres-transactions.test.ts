/** Neither the operations nor the migrations of the backing join a transaction of the caller's. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer } from "effect"
import { readFileSync } from "node:fs"
import { inject } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { buildOn, connect, freshName } from "../utils/postgres.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

const build = buildOn(url)

describe("a transaction of the caller's", () => {
  it.live("is not joined: an acquire inside takes effect at once, survives the rollback, and locks nothing", () =>
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

  it.live("that is rolled back releases the permits of a withPermits inside, too", () =>
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

/** They wait for time limits, side by side with the next one. */
describe("a layer that is built inside a transaction of the caller's", { concurrent: true }, () => {
  const buildInside = (sql: PgClient.PgClient, schema: string) =>
    Layer.build(PostgresBacking.layer({ schema })).pipe(Effect.provideService(PgClient.PgClient, sql))

  it.live("leaves the session as it is, keeps nobody else from migrating, and its schema survives the rollback", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const sql = yield* connect(url)
      const searchPath = sql`select current_setting('search_path') as path, current_setting('lock_timeout') as timeout`
      const rolledBack = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
        const before = yield* searchPath
        yield* buildInside(sql, schema)
        expect(yield* searchPath).toEqual(before)
        yield* Effect.timeout(build({ schema: freshName() }), "5 seconds")
        return yield* Effect.fail("rollback")
      })))
      expect(rolledBack).toEqual(Exit.fail("rollback"))
      const { backing } = yield* build({ schema, migrate: false })
      expect(yield* backing.tryAcquire("key", "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
    }))

  it.live("fails in time if the transaction has the only connection of the pool", () =>
    Effect.gen(function*() {
      const sql = yield* connect(url, { maxConnections: 1 })
      const error = yield* Effect.flip(
        sql.withTransaction(Effect.andThen(sql`select 1`, buildInside(sql, freshName())))
      )
      expect(error).toMatchObject({ _tag: "SemaphoreBackingError", operation: "migrate" })
      expect(String(error)).toContain("No answer within 10 seconds")
    }))
})

describe("a transaction that has the lock of the migrations", { concurrent: true }, () => {
  const text = readFileSync(new URL("../../docs/postgres.sql", import.meta.url), "utf8")
  const lock = /select (pg_advisory_xact_lock\(.*\));/.exec(text)![1]!

  it.live("makes a layer fail in time whose schema is missing, and does not concern one whose schema exists", () =>
    Effect.gen(function*() {
      // In a database of its own, because the lock is that of a database.
      const database = freshName()
      yield* (yield* connect(url)).unsafe(`create database ${database}`)
      const here = Object.assign(new URL(url), { pathname: database }).href
      const schema = freshName()
      yield* buildOn(here)({ schema })
      const other = yield* connect(here)
      yield* other.withTransaction(Effect.gen(function*() {
        yield* other.unsafe(`select ${lock}`)
        yield* Effect.timeout(buildOn(here)({ schema }), "5 seconds")
        const error = yield* Effect.flip(buildOn(here)({ schema: freshName() }))
        expect(error).toMatchObject({ _tag: "SemaphoreBackingError", operation: "migrate" })
        expect(String(error)).toContain("the lock of the migrations was not free within 10 seconds")
      }))
    }))
})
