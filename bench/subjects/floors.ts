/**
 * Floors: the least that a store can be asked for, through the same client as ours. They keep no promise at all.
 *
 * A hand-off is a baton that stays in this process: the release is one request that notifies, and the next waiter goes on
 * when the notification arrives.
 */
import { PgClient } from "@effect/sql-pg"
import { Etcd3 } from "etcd3"
import { Redis } from "ioredis"
import { Context, Effect, Layer, Queue, Redacted, Scope, Semaphore } from "./effect.ts"
import type { Client, Setting } from "./subject.ts"
import { promiseClient } from "./subject.ts"

/** `pass` must lead to a call of `arrived` with the key. */
const baton = (pass: (key: string) => Promise<unknown>) => {
  const held = new Set<string>()
  const lines = new Map<string, Array<() => void>>()
  const client = promiseClient(async ({ key }) => {
    if (held.has(key)) {
      await new Promise<void>((resolve) => {
        const line = lines.get(key)
        if (line) line.push(resolve)
        else lines.set(key, [resolve])
      })
    }
    held.add(key)
    return () => {
      if (!lines.has(key)) held.delete(key)
      return pass(key)
    }
  })
  const arrived = (key: string) => {
    const line = lines.get(key)
    const next = line?.shift()
    if (line?.length === 0) lines.delete(key)
    next?.()
  }
  return { client: { ...client, waiting: async (key: string) => lines.get(key)?.length ?? 0 }, arrived }
}

const moveOwner = `
redis.call('zrem', KEYS[1], ARGV[1])
redis.call('zadd', KEYS[1], ARGV[2], ARGV[1])
redis.call('pexpire', KEYS[1], 30000)
return redis.call('zcard', KEYS[1])`

export const twoScripts = async ({ url }: Setting): Promise<Client> => {
  const redis = new Redis(url)
  const sha = await redis.script("LOAD", moveOwner) as string
  const ask = (key: string) => redis.evalsha(sha, 1, key, "holder", 1)
  return promiseClient(async ({ key }) => {
    await ask(key)
    return () => ask(key)
  })
}

export const scriptAndPublish = async ({ url }: Setting): Promise<Client> => {
  const redis = new Redis(url)
  const subscriber = new Redis(url)
  const sha = await redis.script("LOAD", `redis.call('publish', 'arrivals', KEYS[1]) ${moveOwner}`) as string
  const { arrived, client } = baton((key) => redis.evalsha(sha, 1, key, "holder", 1))
  await subscriber.subscribe("arrivals")
  subscriber.on("message", (_, key) => arrived(key))
  return client
}

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
  const scope = Effect.runSync(Scope.make())
  const context = await Effect.runPromise(
    Layer.buildWithScope(PgClient.layer({ url: Redacted.make(url) }), scope)
  )
  const sql = Context.get(context, PgClient.PgClient)
  await Effect.runPromise(sql.unsafe(install))
  const rowOf = new Map<string, number>()
  const write = (key: string, message: string) => {
    if (!rowOf.has(key)) rowOf.set(key, rowOf.size % rows)
    return Effect.runPromise(sql`select floor_write(${rowOf.get(key)!}, ${message})`.withoutTransform)
  }
  return { sql, write, scope }
}

export const commit = async ({ url }: Setting): Promise<Client> => {
  const { write } = await connectPostgres(url)
  return promiseClient(async ({ key }) => () => write(key, ""))
}

export const commitAndNotify = async ({ url }: Setting): Promise<Client> => {
  const { scope, sql, write } = await connectPostgres(url)
  const { arrived, client } = baton((key) => write(key, key))
  const arrivals = await Effect.runPromise(Scope.provide(sql.listen("arrivals"), scope))
  Effect.runFork(Effect.forever(Effect.map(Queue.take(arrivals), ({ payload }) => arrived(payload ?? ""))))
  return client
}

export const put = async ({ url }: Setting): Promise<Client> => {
  const etcd = new Etcd3({ hosts: url })
  return promiseClient(async ({ key }) => () => etcd.put(`floor/${key}`).value("").exec())
}

export const putToEvent = async ({ url }: Setting): Promise<Client> => {
  const etcd = new Etcd3({ hosts: url })
  const { arrived, client } = baton((key) => etcd.put(`arrivals/${key}`).value("").exec())
  const watcher = await etcd.watch().prefix("arrivals/").create()
  watcher.on("put", ({ key }) => arrived(key.toString().slice("arrivals/".length)))
  return client
}

export const effectSemaphore = async ({ limit }: Setting): Promise<Client> => {
  const semaphores = new Map<string, Semaphore.Semaphore>()
  return {
    run: ({ holding, next, released }) => {
      const work = Effect.suspend(() => {
        const promise = holding()
        return promise === undefined ? Effect.void : Effect.promise(() => promise)
      })
      return Effect.runPromise(Effect.gen(function*() {
        for (let ask = next(); ask !== undefined; ask = next()) {
          if (!semaphores.has(ask.key)) semaphores.set(ask.key, Semaphore.makeUnsafe(limit))
          yield* semaphores.get(ask.key)!.withPermits(ask.permits)(work)
          released?.()
        }
      }))
    }
  }
}
