/**
 * Brings the schema up to date, or checks that it is. Like operations, this happens apart from a transaction of the
 * caller.
 *
 * The migrator of `effect/sql` would not do: it looks for its table on the search path, needs a right to it even if
 * nothing is missing, does not create the schema, waits for its lock without a limit, and joins a transaction that is
 * open.
 */
import type { PgClient } from "@effect/sql-pg"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as SqlError from "effect/sql/SqlError"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { refuse } from "../../core/internal/options.ts"
import { serverError } from "./errors.ts"
import * as Migrations from "./migrations.ts"
import { apart } from "./transactions.ts"

/** The lock that every migration takes, of whatever schema. */
export const migrationLock = 7_320_413_956n

/** How long a migration waits for a lock, and a look at the schema for a connection and an answer. */
export const limitSeconds = 10
const limit = `${limitSeconds} seconds` as const

const failed = (cause: unknown) =>
  new SemaphoreBackingError({ operation: "migrate", cause: SqlError.isSqlError(cause) ? serverError(cause) : cause })

const codeOf = (error: unknown) => {
  const cause = SqlError.isSqlError(error) ? serverError(error) : error
  return typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
}

/** invalid_schema_name, undefined_function */
const isMissing = (error: unknown) => codeOf(error) === "3F000" || codeOf(error) === "42883"

/** deadlock_detected */
const isDeadlock = (error: unknown) => codeOf(error) === "40P01"

/** lock_not_available */
const isLocked = (error: unknown) => codeOf(error) === "55P03"

/** PostgreSQL cuts longer names off, so that two may become one. */
const longestName = 63

/** Returns whether a text has no lone surrogates. */
const isUnicode = (text: string) => Buffer.from(text).toString() === text

/** In a search_path, this is not the schema of that name. */
const currentUser = "$user"

/** Refuses a name that PostgreSQL would not keep as it is, or that would mean another schema. */
export const checkName = (name: unknown): Effect.Effect<void> =>
  typeof name === "string" && name.length > 0 && !name.includes("\0") && isUnicode(name) &&
    Buffer.byteLength(name) <= longestName && name !== currentUser
    ? Effect.void
    : refuse(
      "schema",
      name,
      `a non-empty string of at most ${longestName} bytes in UTF-8, without NUL, and not ${currentUser}`
    )

/** Returns the version of the schema, or undefined if there is none. This needs only EXECUTE on its functions. */
const version = Effect.fnUntraced(function*(client: PgClient.PgClient, name: string) {
  const rows = yield* client.unsafe<{ readonly version: number | null }>(
    `select ${Migrations.quote(name)}.version() as version`
  ).withoutTransform.pipe(
    apart(client),
    Effect.timeout(limit),
    Effect.catch((error) =>
      isMissing(error)
        ? Effect.succeed([] as ReadonlyArray<{ readonly version: number | null }>)
        : failed(Cause.isTimeoutError(error) ? new Cause.TimeoutError(`No answer within ${limit}`) : error)
    )
  )
  return rows[0]?.version ?? undefined
})

const newestOf = (name: string) => Migrations.migrations(name).at(-1)!.id

/**
 * Applies the migrations that are missing. Any number of processes may do so at once. It does not even try to create
 * what is there, because that needs rights which the owner of a schema may lack.
 */
export const migrate = Effect.fnUntraced(function*(client: PgClient.PgClient, name: string) {
  const found = yield* version(client, name)
  if (found !== undefined && found >= newestOf(name)) return
  const schema = Migrations.quote(name)
  const run = <A extends object>(statement: string, ...parameters: ReadonlyArray<string | bigint>) =>
    client.unsafe<A>(statement, parameters).withoutTransform
  yield* client.withTransaction(Effect.gen(function*() {
    // Behind the lock, an older snapshot would not see what others have created.
    yield* run("set transaction isolation level read committed")
    yield* run("set local search_path = pg_catalog")
    yield* run(`set local lock_timeout = '${limitSeconds}s'`)
    yield* run("select pg_advisory_xact_lock($1::bigint)", migrationLock)
    const [there] = yield* run<{ readonly schema: boolean; readonly migrations: boolean }>(
      `select
        exists (select from pg_namespace where nspname = $1::text) as schema,
        exists (select from pg_tables where schemaname = $1::text and tablename = 'migrations') as migrations`,
      name
    )
    if (!there!.schema) yield* run(`create schema ${schema}`)
    if (!there!.migrations) yield* run(`create table ${schema}.migrations ${Migrations.columns}`)
    const applied = new Set((yield* run<{ id: number }>(`select id from ${schema}.migrations`)).map(({ id }) => id))
    for (const { id, name: title, statements } of Migrations.migrations(name)) {
      if (applied.has(id)) continue
      for (const statement of statements) yield* run(statement)
      yield* run(`insert into ${schema}.migrations (id, name) values ($1::bigint, $2::text)`, BigInt(id), title)
    }
  })).pipe(
    apart(client),
    // Functions of an earlier version lock tables in another order, so there may be deadlocks.
    Effect.retry({ while: isDeadlock, schedule: Schedule.jittered(Schedule.spaced("100 millis")), times: 10 }),
    Effect.mapError((error) =>
      failed(
        isLocked(error)
          ? `the lock of the migrations was not free within ${limit}: another session holds it, and may have left a transaction open`
          : error
      )
    )
  )
})

/**
 * Fails unless the schema has the version that this package needs, and sessions have the isolation level that it needs.
 */
export const verify = Effect.fnUntraced(function*(client: PgClient.PgClient, name: string) {
  const newest = newestOf(name)
  const found = yield* version(client, name)
  if (found === undefined) {
    return yield* failed(
      `there is no schema ${name}: run its migrations, or let a layer or \`effect-distributed-lock run\` create it`
    )
  }
  if (found !== newest) {
    return yield* failed(
      `the schema ${name} has version ${found}, and this package needs version ${newest}: ${
        found < newest ? "run its migrations" : "use a newer version of the package"
      }`
    )
  }
})
