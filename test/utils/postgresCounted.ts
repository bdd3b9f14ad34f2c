/** A PostgreSQL that counts what operations cost, by pg_stat_statements. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer } from "effect"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { connect, server } from "./postgres.ts"

/** Starts a server that counts statements, a backing over a pool of ten, and an observer that reads the counts. */
export const counted = Effect.gen(function*() {
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
