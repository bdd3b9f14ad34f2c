/** What rights a role needs to create the schema, and what rights to use it. */
import type { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { readFileSync } from "node:fs"
import { inject } from "vitest"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { buildOn, connect, freshName } from "../utils/postgres.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

const docs = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8")

const text = docs("postgres.sql")

/** The statements of docs/postgres.sql, without comments; bodies are dollar-quoted. */
const statements = Array.from(
  text.replaceAll(/^--.*$/gm, "").matchAll(/(?:[^;$]|(\$\w+\$)[^]*?\1)+;/g),
  ([all]) => all.trim()
)

/** Returns the grants that an application needs, as docs/postgres.sql says. */
const grants = (schema: string, role: string) =>
  Array.from(
    text.matchAll(/^-- (grant .*);$/gm),
    ([, grant]) => grant!.replaceAll("effect_distributed_lock", schema).replace("my_application", role)
  )

/** Makes a role that may create nothing in the database, and a schema that it owns. */
const ownerOf = Effect.fnUntraced(function*(superuser: PgClient.PgClient, schema: string) {
  const owner = freshName()
  yield* superuser.unsafe(`create role ${owner} login`)
  yield* superuser.unsafe(`create schema "${schema}" authorization ${owner}`)
  return owner
})

const usesAll = Effect.fnUntraced(function*(backing: DistributedSemaphoreBacking) {
  expect(yield* backing.tryAcquire("key", "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
  expect(yield* backing.tryAcquire("key", "b", minute, 1, 1, { queue: true })).toMatchObject({ _tag: "Waiting" })
  expect(yield* backing.refresh("key", "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
  expect(yield* backing.getCount("key", minute)).toBe(1)
  expect((yield* backing.inspect!("key")).line).toHaveLength(1)
  expect(yield* backing.release("key", "a", 1)).toBe(1)
  expect(yield* backing.release("key", "b", 1)).toBe(1)
})

describe("a role that owns the schema, and may not create one", () => {
  it.live("migrates it when it is empty, and finds it up to date the next time", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const username = yield* ownerOf(yield* connect(url), schema)
      for (let time = 0; time < 2; time++) {
        const { backing } = yield* buildOn(url)({ schema }, { username })
        yield* usesAll(backing)
      }
    }))

  it.live("can run docs/postgres.sql, and run it again", () =>
    Effect.gen(function*() {
      const database = freshName()
      yield* (yield* connect(url)).unsafe(`create database ${database}`)
      const own = Object.assign(new URL(url), { pathname: database }).href
      const username = yield* ownerOf(yield* connect(own), "effect_distributed_lock")
      const sql = yield* connect(own, { username, maxConnections: 1 })
      expect(statements.length).toBeGreaterThan(5)
      for (let time = 0; time < 2; time++) {
        for (const statement of statements) yield* sql.unsafe(statement)
        const { backing } = yield* buildOn(own)({ migrate: time === 0 }, { username })
        yield* usesAll(backing)
      }
    }))
})

describe("an application", () => {
  it("is granted the same by docs/postgres.sql and docs/postgres.md", () => {
    const granted = grants("effect_distributed_lock", "my_application")
    expect(granted).toHaveLength(2)
    for (const grant of granted) expect(docs("postgres.md")).toContain(`${grant.replaceAll("\"", "")};\n`)
  })

  it.live("needs no more than the docs grant, even if functions are not for everybody", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const superuser = yield* connect(url)
      const owner = yield* ownerOf(superuser, schema)
      yield* superuser.unsafe(`alter default privileges for role ${owner} revoke execute on functions from public`)
      yield* buildOn(url)({ schema }, { username: owner })

      const username = freshName()
      yield* superuser.unsafe(`create role ${username} login`)
      for (const grant of grants(schema, username)) yield* superuser.unsafe(grant)
      for (const migrate of [false, true]) {
        const { backing, sql } = yield* buildOn(url)({ schema, migrate }, { username })
        yield* usesAll(backing)
        // The role can't read the tables.
        const tables = yield* superuser.unsafe<{ name: string }>(
          `select tablename as name from pg_tables where schemaname = $1`,
          [schema]
        )
        for (const { name } of tables) yield* Effect.flip(sql.unsafe(`select * from "${schema}"."${name}"`))
      }
    }))
})
