/** Where the demo keeps its semaphore: in a file, or in a server that the environment names. */
import { Effect, Layer, Redacted } from "effect"
import type { DistributedSemaphoreBacking } from "../src/index.ts"

export interface Store {
  readonly name: string
  readonly layer: Layer.Layer<DistributedSemaphoreBacking, unknown>
  /** How much later than its ttl a lease may end. */
  readonly granularityMillis: number
}

// Each store loads its client only when it is used: every worker is a process, and needs one of them.

const redis = async (url: string): Promise<Store> => {
  const [{ Redis }, { RedisBacking }] = await Promise.all([import("ioredis"), import("../src/backings/redis/index.ts")])
  return {
    name: `Redis at ${url}`,
    granularityMillis: 0,
    layer: Layer.unwrap(
      Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => new Redis(url).on("error", () => {})),
          (redis) => Effect.sync(() => redis.disconnect())
        ),
        (redis) => RedisBacking.layer(redis)
      )
    )
  }
}

const postgres = async (url: string): Promise<Store> => {
  const [{ PgClient }, { PostgresBacking }] = await Promise.all([
    import("@effect/sql-pg"),
    import("../src/backings/postgres/index.ts")
  ])
  return {
    name: `PostgreSQL at ${url}`,
    granularityMillis: 0,
    layer: Layer.provide(PostgresBacking.layer(), PgClient.layer({ url: Redacted.make(url) }))
  }
}

const etcd = async (url: string): Promise<Store> => {
  const [{ Etcd3 }, { EtcdBacking }] = await Promise.all([import("etcd3"), import("../src/backings/etcd/index.ts")])
  return {
    name: `etcd at ${url}`,
    // etcd counts in whole seconds, and removes what has expired within one more.
    granularityMillis: 2000,
    layer: Layer.unwrap(
      Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => new Etcd3({ hosts: url.split(",") })),
          (client) => Effect.sync(() => client.close())
        ),
        (client) => EtcdBacking.layer(client)
      )
    )
  }
}

const sqlite = async (filename: string): Promise<Store> => {
  const { SqliteBacking } = await import("../src/backings/sqlite/index.ts")
  return {
    name: "a SQLite file",
    granularityMillis: 0,
    layer: SqliteBacking.layer({ filename })
  }
}

/** Returns the store that the environment names, or else the file. */
export const find = async (filename: string): Promise<Store> => {
  const { ETCD_URL, POSTGRES_URL, REDIS_URL } = process.env
  if (REDIS_URL) return redis(REDIS_URL)
  if (POSTGRES_URL) return postgres(POSTGRES_URL)
  if (ETCD_URL) return etcd(ETCD_URL)
  return sqlite(filename)
}
