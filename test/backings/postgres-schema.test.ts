/** The schema: who creates it and when, and how it may be called. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Scope } from "effect"
import { readFileSync } from "node:fs"
import { inject } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { buildOn, connect, freshName } from "../utils/postgres.ts"
import { inBoth } from "../utils/twoProcesses.ts"
import { until } from "../utils/until.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

const build = buildOn(url)

describe("the schema", () => {
  it.live("is created once by ten processes that start at the same time", () =>
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
      expect(rows).toEqual([{ id: 1 }, { id: 2 }])
    }))

  it.live("that is missing, or too new, makes the layer fail with a clear error", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const missing = yield* Effect.flip(build({ schema, migrate: false }))
      expect(missing).toMatchObject({ _tag: "SemaphoreBackingError", operation: "migrate" })
      expect(String(missing)).toContain(`there is no schema ${schema}: run its migrations`)

      const { sql } = yield* build({ schema })
      yield* sql.unsafe(`insert into "${schema}".migrations (id, name) values (99, 'of the future')`)
      expect(String(yield* Effect.flip(build({ schema })))).toContain(
        "has version 99, and this package needs version 2"
      )
    }))

  it.live("can be created by hand, for a role that may only execute its functions", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const role = freshName()
      const owner = yield* connect(url)
      yield* owner.unsafe(`create schema "${schema}"`)
      yield* owner.unsafe(`create table "${schema}".migrations (id integer primary key, name text not null)`)
      yield* owner.withTransaction(Effect.gen(function*() {
        for (const { id, name, statements } of PostgresBacking.migrations(schema)) {
          for (const statement of statements) yield* owner.unsafe(statement)
          yield* owner.unsafe(`insert into "${schema}".migrations (id, name) values ($1, $2)`, [id, name])
        }
      }))
      yield* owner.unsafe(`create role ${role} login`)
      yield* owner.unsafe(`grant usage on schema "${schema}" to ${role}`)

      const { backing, sql } = yield* build({ schema, migrate: false }, { username: role })
      yield* Effect.flip(sql.unsafe(`select * from "${schema}".contenders`))
      expect(yield* backing.tryAcquire("key", "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.tryAcquire("key", "b", minute, 1, 1, { queue: true })).toMatchObject({ _tag: "Waiting" })
      expect(yield* backing.refresh("key", "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.getCount("key", minute)).toBe(1)
      expect((yield* backing.inspect!("key")).line).toHaveLength(1)
      expect(yield* backing.release("key", "a", 1)).toBe(1)
    }))

  it.live("may have any name, and its waiters are notified", () =>
    Effect.gen(function*() {
      const strange = [
        "",
        ` "'; $1 é`,
        "$semaphore$",
        "$semaphore",
        "$semaphore$$semaphore_$",
        "$$",
        "\\",
        "\\'",
        "%s\n"
      ]
      // 63 bytes, as many as a name may have.
      const long = freshName().padEnd(61, "_").concat("я")
      const schemas = [...strange.map((text) => freshName() + text), long]
      for (const schema of schemas) {
        const here = yield* build({ schema })
        const there = yield* build({ schema })
        const [held, awaited] = yield* inBoth([here.context, there.context], "key", { ttl: minute })
        const holder = yield* Scope.make()
        yield* Scope.provide(held.take(1), holder)
        const waiter = yield* Effect.forkScoped(awaited.withPermits(1)(Effect.void))
        yield* until(Effect.map(held.inspect, ({ line }) => line.length === 1))
        yield* Scope.close(holder, Exit.void)
        // By a notification: without one, the first in line would look after a second.
        yield* Effect.timeout(Fiber.join(waiter), "900 millis")
      }
    }))
})

describe("the name of a schema", () => {
  it.live.each([
    ["is empty", ""],
    ["has 64 bytes", "s".repeat(64)],
    ["has 40 characters and 80 bytes", "я".repeat(40)],
    ["contains NUL", "a\0b"],
    ["contains half of a character", "a\ud800"],
    ["stands for the current user's schema in a search_path", "$user"],
    ["is no string", 1 as unknown as string]
  ])("that %s is refused as misuse", ([, schema]) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(build({ schema }))
      const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
      expect(Cause.isIllegalArgumentError(defect)).toBe(true)
      expect((defect as Cause.IllegalArgumentError).message).toMatch(
        /^schema is .*, but must be a non-empty string of at most 63 bytes in UTF-8, without NUL, and not \$user$/
      )
    }))
})

describe("migrations under another isolation level", () => {
  it.live("that race all fail with an error that names the level", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const startupParameters = { default_transaction_isolation: "repeatable read" }
      const errors = yield* Effect.forEach(
        Array.from({ length: 8 }),
        () => Effect.flip(build({ schema }, { startupParameters })),
        { concurrency: "unbounded" }
      )
      for (const error of errors) {
        expect(String(error)).toContain("semaphores need the isolation level READ COMMITTED, not REPEATABLE READ")
      }
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
