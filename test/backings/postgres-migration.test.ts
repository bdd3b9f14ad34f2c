/** The migration from schema version 1, which notified waiters to ask again, to version 2, which grants. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { inject } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { buildOn, connect, freshName } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

/** Makes a schema of version 1, and the acquire of a process that uses it. */
const earlier = Effect.gen(function*() {
  const schema = freshName()
  const sql = yield* connect(url)
  yield* sql.unsafe(`create schema "${schema}"`)
  yield* sql.unsafe(`create table "${schema}".migrations (id integer primary key, name text not null)`)
  const { id, name, statements } = PostgresBacking.migrations(schema)[0]!
  for (const statement of statements) yield* sql.unsafe(statement)
  yield* sql.unsafe(`insert into "${schema}".migrations (id, name) values ($1, $2)`, [id, name])
  const tryAcquire = (key: string, holder: string, limit: number, permits: number, millis = 60_000) =>
    sql.unsafe<{ answer: string; number: bigint }>(
      `select answer, number from "${schema}".try_acquire($1::text, $2::text, $3::bigint, $4::bigint, $5::bigint, true)`,
      [JSON.stringify(key), JSON.stringify(holder), BigInt(millis), BigInt(limit), BigInt(permits)]
    ).pipe(Effect.map(([row]) => row!))
  return { schema, sql, tryAcquire }
})

describe("the migration to version 2", () => {
  it.live("keeps holds, with their identifiers, permits and tokens, and forgets places", () =>
    Effect.gen(function*() {
      const { schema, tryAcquire } = yield* earlier
      const a = yield* tryAcquire("key", "a", 3, 2)
      const b = yield* tryAcquire("key", "b", 3, 1)
      expect(yield* tryAcquire("key", "c", 3, 1)).toMatchObject({ answer: "waiting" })
      expect(yield* tryAcquire("other", "a", 1, 1)).toMatchObject({ answer: "acquired" })
      yield* tryAcquire("short", "a", 1, 1, 1)

      const { backing } = yield* buildOn(url)({ schema })
      const { holders, line } = yield* backing.inspect!("key")
      expect(holders.map(({ fencingToken, identifier, permits }) => [identifier, permits, fencingToken])).toEqual([
        ["a", 2, a.number],
        ["b", 1, b.number]
      ])
      for (const { remaining } of holders) expect(Duration.toSeconds(remaining)).toBeGreaterThan(30)
      expect(line).toEqual([])
      expect(yield* backing.getCount("other", minute)).toBe(1)
      expect(yield* backing.getCount("short", minute)).toBe(0)

      expect(yield* backing.tryAcquire("key", "d", minute, 3, 1)).toBe(false)
      expect(yield* backing.tryAcquire("key", "d", minute, 3, 1, { queue: true })).toMatchObject({ position: 0 })
      expect(yield* backing.refresh("key", "b", minute, 3, 1)).toEqual({ _tag: "Acquired", fencingToken: b.number })
      expect(yield* backing.release("key", "a", 2)).toBe(2)
      const granted = yield* backing.refresh("key", "d", minute, 3, 1)
      expect(granted).toMatchObject({ _tag: "Acquired" })
      if (typeof granted === "object") expect(granted.fencingToken).toBeGreaterThan(b.number)
    }))

  it.live("keeps keys listed that no operation has used since", () =>
    Effect.gen(function*() {
      const { schema, sql, tryAcquire } = yield* earlier
      yield* tryAcquire("key", "a", 2, 1)
      yield* tryAcquire("key", "b", 2, 1)
      yield* tryAcquire("short", "a", 1, 1, 1)
      const { statements } = PostgresBacking.migrations(schema)[1]!
      yield* sql.withTransaction(Effect.forEach(statements, (statement) => sql.unsafe(statement)))
      expect(yield* sql.unsafe(`select name from "${schema}".keys('', 10)`)).toEqual([{ name: "\"key\"" }])
    }))

  it.live("lets the holds that it kept expire, and grants what they leave", () =>
    Effect.gen(function*() {
      const { schema, tryAcquire } = yield* earlier
      yield* tryAcquire("key", "a", 1, 1, 3000)
      const { backing } = yield* buildOn(url)({ schema })
      expect(yield* backing.tryAcquire("key", "b", minute, 1, 1, { queue: true })).toMatchObject({ position: 0 })
      yield* Effect.sleep("3100 millis")
      expect(yield* backing.refresh("key", "b", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
    }))

  it.live("stops processes of the earlier version with a clear error", () =>
    Effect.gen(function*() {
      const { schema, sql, tryAcquire } = yield* earlier
      yield* tryAcquire("key", "a", 1, 1)
      const { backing } = yield* buildOn(url)({ schema })
      const calls = [
        tryAcquire("key", "b", 1, 1),
        sql.unsafe(`select "${schema}".release('"key"', '"a"', 1::bigint, null::bigint)`),
        sql.unsafe(`select "${schema}".refresh(array['"key"'], array['"a"'], array[1::bigint], array[0::bigint])`)
      ]
      for (const call of calls) {
        const error = yield* Effect.flip(call as Effect.Effect<unknown, { reason: { cause: unknown } }>)
        expect(String(error.reason.cause)).toContain("this process runs a package that needs version 1: update it")
      }
      expect(yield* backing.getCount("key", minute)).toBe(1)
    }))

  it.live("loses no hold that a process of the earlier version acquires while it waits", () =>
    Effect.gen(function*() {
      const { schema, sql } = yield* earlier
      const building = yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql.unsafe(`select answer from "${schema}".try_acquire('"key"', '"a"', 60000, 1, 1, false)`)
        const building = yield* Effect.forkScoped(buildOn(url)({ schema }), { startImmediately: true })
        const observer = yield* connect(url, { maxConnections: 1 })
        yield* until(Effect.map(
          observer`select 1 from pg_locks where not granted and relation = ${`"${schema}".holds`}::text::regclass`,
          (rows) => rows.length === 1
        ))
        return building
      }))
      const { backing } = yield* Fiber.join(building)
      expect(yield* backing.getCount("key", minute)).toBe(1)
      expect(yield* backing.tryAcquire("key", "b", minute, 1, 1)).toBe(false)
    }))

  it.live("succeeds after a deadlock with an operation of the earlier version", () =>
    Effect.gen(function*() {
      const { schema, sql } = yield* earlier
      const lock = (table: string) => sql.unsafe(`lock table "${schema}".${table} in row exclusive mode`)
      const observer = yield* connect(url, { maxConnections: 1 })
      // A session looks for a deadlock once, when it has waited for this long, and is the one that ends. The migration locks the
      // tables in the other order.
      const startupParameters = { deadlock_timeout: "3s" }
      const building = yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`set local deadlock_timeout = '1 min'`
        yield* lock("places")
        const building = yield* Effect.forkScoped(buildOn(url)({ schema }, { startupParameters }), {
          startImmediately: true
        })
        yield* until(Effect.map(
          observer`select 1 from pg_locks where not granted and relation = ${`"${schema}".places`}::text::regclass`,
          (rows) => rows.length === 1
        ))
        yield* lock("holds")
        return building
      }))
      const { backing } = yield* Fiber.join(building)
      expect(yield* backing.getCount("key", minute)).toBe(0)
    }))
})
