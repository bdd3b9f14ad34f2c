/** Brings the schema up to date, or finds that it is not. */
import type { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import * as SqlError from "effect/sql/SqlError"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { serverError } from "./errors.ts"
import * as Migrations from "./migrations.ts"

/** One lock for all who migrate, in whatever schema. */
const lock = 7_320_413_956

const failed = (cause: unknown) =>
  new SemaphoreBackingError({ operation: "migrate", cause: SqlError.isSqlError(cause) ? serverError(cause) : cause })

/** Applies what is missing. Any number of processes may do so at once. */
export const migrate = (client: PgClient.PgClient, name: string): Effect.Effect<void, SemaphoreBackingError> => {
  const schema = Migrations.quote(name)
  const run = (statement: string, ...parameters: ReadonlyArray<unknown>) =>
    client.unsafe<{ readonly id: number }>(statement, parameters).withoutTransform
  return client.withTransaction(Effect.gen(function*() {
    yield* run("set local search_path = pg_catalog")
    yield* run("select pg_advisory_xact_lock($1)", lock)
    yield* run(`create schema if not exists ${schema}`)
    yield* run(
      `create table if not exists ${schema}.migrations (id integer primary key, name text not null, applied timestamptz not null default now())`
    )
    const applied = new Set((yield* run(`select id from ${schema}.migrations`)).map(({ id }) => id))
    for (const { id, name: title, statements } of Migrations.migrations(name)) {
      if (applied.has(id)) continue
      for (const statement of statements) yield* run(statement)
      yield* run(`insert into ${schema}.migrations (id, name) values ($1, $2)`, id, title)
    }
  })).pipe(Effect.mapError(failed))
}

/** Fails unless the schema is the one that this version of the package was written for, and sessions are as it needs them. */
export const verify = Effect.fnUntraced(function*(client: PgClient.PgClient, name: string) {
  const newest = Migrations.migrations(name).at(-1)!.id
  const [row] = yield* client.unsafe<{ readonly version: number }>(
    `select ${Migrations.quote(name)}.version() as version`
  ).withoutTransform.pipe(
    Effect.mapError((error) =>
      failed(isMissing(error) ? `there is no schema ${name}: run its migrations, or let the layer do so` : error)
    )
  )
  const found = row?.version ?? 0
  if (found !== newest) {
    return yield* failed(
      `the schema ${name} has version ${found}, and this package needs version ${newest}: ${
        found < newest ? "run its migrations" : "use a newer version of the package"
      }`
    )
  }
})

/** invalid_schema_name, undefined_function */
const isMissing = (error: SqlError.SqlError) => {
  const cause = serverError(error)
  return "code" in cause && (cause.code === "3F000" || cause.code === "42883")
}
