/** effect-distributed-lock, as it was built to dist/. Only what is public is used. */
import { PgClient } from "@effect/sql-pg"
import { Etcd3 } from "etcd3"
import { Redis } from "ioredis"
import { EtcdBacking } from "../../dist/backings/etcd/index.js"
import { PostgresBacking } from "../../dist/backings/postgres/index.js"
import type { DistributedSemaphoreBacking } from "../../dist/index.js"
import { DistributedSemaphore, MemoryBacking, RedisBacking } from "../../dist/index.js"
import { Effect, Layer, Redacted, Scope } from "./effect.ts"
import type { Client, Setting } from "./subject.ts"

const client = async (
  layer: Layer.Layer<DistributedSemaphoreBacking, unknown>,
  { limit, ttlMillis }: Setting
): Promise<Client> => {
  const context = await Effect.runPromise(Effect.flatMap(Scope.make(), (scope) => Layer.buildWithScope(layer, scope)))
  const semaphores = new Map<string, DistributedSemaphore.DistributedSemaphore>()
  const semaphore = (key: string) => {
    const known = semaphores.get(key)
    if (known) return known
    const made = Effect.runSync(
      Effect.provideContext(DistributedSemaphore.make(key, { ttl: ttlMillis, limit }), context)
    )
    semaphores.set(key, made)
    return made
  }
  return {
    run: ({ holding, next, released }) => {
      const work = Effect.suspend(() => {
        const promise = holding()
        return promise === undefined ? Effect.void : Effect.promise(() => promise)
      })
      return Effect.runPromise(Effect.gen(function*() {
        for (let ask = next(); ask !== undefined; ask = next()) {
          yield* semaphore(ask.key).withPermits(ask.permits)(work)
          released?.()
        }
      }))
    },
    waiting: (key) => Effect.runPromise(Effect.map(semaphore(key).inspect, ({ line }) => line.length))
  }
}

export const onMemory = (setting: Setting) => client(MemoryBacking.layer, setting)

export const onRedis = (setting: Setting) => client(RedisBacking.layer(new Redis(setting.url) as never), setting)

export const onPostgres = (setting: Setting) =>
  client(Layer.provide(PostgresBacking.layer(), PgClient.layer({ url: Redacted.make(setting.url) })), setting)

export const onEtcd = (setting: Setting) => client(EtcdBacking.layer(new Etcd3({ hosts: setting.url })), setting)
