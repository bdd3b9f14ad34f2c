/** Floors on PostgreSQL, through the client of ours. */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Queue, Redacted, Scope } from "../effect.ts"
import { build, scope } from "../fibers.ts"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"
import { baton } from "./baton.ts"

/** A row for each of the keys that are asked for at once. The installation is safe to repeat. */
const rows = 64
const install = `do $do$ begin
  create table if not exists floor (id int primary key, n bigint not null) with (fillfactor = 50);
  insert into floor select id, 0 from generate_series(0, ${rows - 1}) id on conflict do nothing;
  create or replace function floor_write(row_id int, message text) returns void language plpgsql as $$ begin
    update floor set n = n + 1 where id = row_id;
    if message <> '' then perform pg_notify('arrivals', message); end if;
  end $$;
end $do$`

const connectPostgres = async (url: string) => {
  const sql = Context.get(await build(PgClient.layer({ url: Redacted.make(url) })), PgClient.PgClient)
  await Effect.runPromise(sql.unsafe(install))
  const rowOf = new Map<string, number>()
  const write = (key: string, message: string) => {
    if (!rowOf.has(key)) rowOf.set(key, rowOf.size % rows)
    return Effect.runPromise(sql`select floor_write(${rowOf.get(key)!}, ${message})`.withoutTransform)
  }
  return { sql, write }
}

export const commit = async ({ url }: Setting): Promise<Client> => {
  const { write } = await connectPostgres(url)
  return promiseClient(async ({ key }) => () => write(key, ""))
}

export const commitAndNotify = async ({ url }: Setting): Promise<Client> => {
  const { sql, write } = await connectPostgres(url)
  const { arrived, client } = baton((key) => write(key, key))
  const arrivals = await Effect.runPromise(Scope.provide(sql.listen("arrivals"), scope))
  Effect.runFork(Effect.forever(Effect.map(Queue.take(arrivals), ({ payload }) => arrived(payload ?? ""))))
  return client
}
