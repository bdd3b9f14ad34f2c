/** PostgreSQL servers and clients for tests. */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted } from "effect"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"

export const server = Effect.acquireRelease(
  Effect.promise(() => startOwn(stores.postgres)),
  (server) => Effect.promise(() => server.stop())
)

export const client = (url: string, options: Omit<PgClient.PgPoolConfig, "url"> = {}) =>
  PgClient.layer({ url: Redacted.make(url), ...options })

/** Makes a client, which is closed with the scope. */
export const connect = (url: string, options: Omit<PgClient.PgPoolConfig, "url"> = {}) =>
  Effect.map(Layer.build(Layer.fresh(client(url, options))), Context.get(PgClient.PgClient))

/** Builds the backing over a client of its own. Returns both, so that a test can use the client, too. */
export const buildOn = (url: string) =>
  Effect.fnUntraced(function*(
    options: PostgresBacking.PostgresBackingOptions = {},
    pool: Parameters<typeof client>[1] = {}
  ) {
    const sql = yield* connect(url, pool)
    const context = yield* Layer.build(
      PostgresBacking.layer(options).pipe(Layer.provide(Layer.succeed(PgClient.PgClient, sql)))
    )
    return { sql, context, backing: Context.get(context, DistributedSemaphoreBacking) }
  })

let names = 0

/** Makes a name for a schema, a role, a database or a key that no test has used. */
export const freshName = () => `test_${process.pid}_${names++}`

/** Counts the connections of clients, without the one that asks. */
export const connections = (sql: PgClient.PgClient) =>
  sql<{ count: bigint }>`
    select count(*) as count from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
  `.pipe(Effect.map(([row]) => Number(row!.count)))
