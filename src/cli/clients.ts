/** Makes the clients of the stores, configured as the pages of the backings recommend. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { exit } from "./exits.ts"

/** The options that say where a store keeps semaphores, and how to reach it. */
export interface ClientOptions {
  readonly keyPrefix?: string
  readonly restartGrace?: Duration.Duration
  readonly schema?: string
  readonly tlsCa?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
}

const read = (file: string | undefined): Buffer | undefined => {
  try {
    return file === undefined ? undefined : readFileSync(file)
  } catch (error) {
    throw exit("misuse", `A file for TLS can't be read: ${(error as Error).message}`)
  }
}

/** Reads the files for TLS, if any are given. */
const tlsOf = ({ tlsCa, tlsCert, tlsKey }: ClientOptions) => {
  const files = { ca: read(tlsCa), cert: read(tlsCert), key: read(tlsKey) }
  const given = Object.entries(files).filter(([, file]) => file !== undefined)
  return given.length === 0 ? undefined : Object.fromEntries(given) as { ca?: Buffer; cert?: Buffer; key?: Buffer }
}

const check = (url: string): void => {
  if (!URL.canParse(url)) {
    throw exit("misuse", "The store's URL is broken. Encode the special characters of its password, such as %2F for /")
  }
}

export const redis = async (url: string, options: ClientOptions) => {
  check(url)
  const [{ Redis }, { RedisBacking }] = await Promise.all([import("ioredis"), import("../backings/redis/index.ts")])
  const tls = tlsOf(options)
  return Layer.unwrap(Effect.gen(function*() {
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() =>
        new Redis(url, {
          lazyConnect: true,
          // This node has become a replica: after a new connection, the address may lead to the primary.
          reconnectOnError: (error) => error.message.includes("READONLY"),
          ...tls && { tls }
        })
      ),
      (redis) => Effect.sync(() => redis.disconnect())
    )
    let last: Error | undefined
    redis.on("error", (error) => last = error)
    // Fails at once if there is no connection: the first command would wait for one.
    yield* Effect.tryPromise({ try: () => redis.connect(), catch: (error) => last ?? error })
    return RedisBacking.layer(redis, options)
  }))
}

export const postgres = async (url: string, { schema, ...options }: ClientOptions, creates: boolean) => {
  check(url)
  const [{ PgClient }, { PostgresBacking }] = await Promise.all([
    import("@effect/sql-pg"),
    import("../backings/postgres/index.ts")
  ])
  const tls = tlsOf(options)
  return Layer.provide(
    PostgresBacking.layer({ schema, migrate: creates }),
    PgClient.layer({ url: Redacted.make(url), maxConnections: 3, ...tls && { ssl: tls } })
  )
}

/** The host may be an IPv6 address in brackets. */
const hostAndPort = /^(\[[\da-f:.]+\]|[^\s:[\]]+)(:\d+)?$/i

export const etcd = async (url: string, options: ClientOptions) => {
  const [, scheme, credentials, addresses] = /^(etcds?):\/\/(?:(.*)@)?([^/@?#]+)\/?$/.exec(url) ?? []
  const hosts = addresses?.split(",") ?? []
  if (hosts.length === 0 || !hosts.every((host) => hostAndPort.test(host))) {
    throw exit("misuse", "The store's URL is broken. This is one: etcd://host:2379,host2:2379")
  }
  const [{ Etcd3 }, { EtcdBacking }] = await Promise.all([import("etcd3"), import("../backings/etcd/index.ts")])
  // It is a dependency of etcd3, which this package itself may not find.
  const { noop } = createRequire(import.meta.resolve("etcd3"))("cockatiel")
  const tls = tlsOf(options)
  const [username, ...password] = credentials?.split(":").map(decodeURIComponent) ?? []
  const client = Effect.acquireRelease(
    Effect.sync(() =>
      new Etcd3({
        hosts: hosts.map((host) =>
          `${scheme === "etcds" ? "https" : "http"}://${/:\d+$/.test(host) ? host : `${host}:2379`}`
        ),
        // Its circuit breaker would refuse calls for seconds after the server is back.
        faultHandling: { host: () => noop },
        grpcOptions: { "grpc.keepalive_time_ms": 10_000, "grpc.keepalive_timeout_ms": 3000 },
        ...username && { auth: { username, password: password.join(":") } },
        ...tls && {
          credentials: {
            rootCertificate: tls.ca!,
            ...tls.key && { privateKey: tls.key },
            ...tls.cert && { certChain: tls.cert }
          }
        }
      })
    ),
    (client) => Effect.sync(() => client.close())
  )
  return Layer.unwrap(Effect.map(client, (client) => EtcdBacking.layer(client, options)))
}

export const sqlite = async (url: string, _options: ClientOptions, creates: boolean) => {
  const { SqliteBacking } = await import("../backings/sqlite/index.ts")
  const filename = url.slice("sqlite:".length).replace(/^\/\/(?=\/)/, "")
  if (filename === "") throw exit("misuse", "The store names no file. This one does: sqlite:/var/lib/locks.sqlite")
  if (!creates && !existsSync(filename)) throw exit("store", `There is no file ${filename}`)
  return SqliteBacking.layer({ filename })
}
