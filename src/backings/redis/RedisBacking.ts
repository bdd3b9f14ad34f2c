/**
 * Semaphores in Redis, through an ioredis client: a single server, or a Cluster.
 *
 * **When to use**
 *
 * Use it for the common single instance. What a failover to a replica can lose is told in the README.
 *
 * **Gotchas**
 *
 * The server must not evict keys (`maxmemory-policy noeviction`).
 *
 * @since 0.1.0
 */
import { Duration, Effect, Layer, Schedule } from "effect"
import type { Cluster, Redis } from "ioredis"
import type { SemaphoreState } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { channelOf, escape, keysOf, unescape } from "./names.ts"
import * as Notifications from "./notifications.ts"
import * as Scripts from "./scripts.ts"
import * as Subscriber from "./subscriber.ts"

/**
 * @category options
 * @since 0.1.0
 */
export interface RedisBackingOptions {
  /** What all keys and channels start with, `"semaphore:"` by default. The client's own `keyPrefix` comes before it. */
  readonly keyPrefix?: string | undefined
  /**
   * Whether waiters are notified, `true` by default; this takes one more connection. Otherwise they poll. With a Cluster it
   * needs Redis 7, for sharded pub/sub.
   */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /**
   * When to repeat a subscription that the server refused: every second by default. When it ends, waiters poll. A lost
   * connection is restored in any case.
   */
  readonly pushStreamRetrySchedule?: Schedule.Schedule<unknown> | undefined
}

/**
 * Keeps semaphores in the Redis of `redis`. The client stays yours: it is neither configured nor closed.
 *
 * **Example** (One server)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"
 * import { Redis } from "ioredis"
 *
 * const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379")
 *
 * const program = Effect.gen(function*() {
 *   const mutex = yield* DistributedSemaphore.make("nightly-report")
 *   yield* Effect.log("running the report").pipe(mutex.withPermits(1))
 * })
 *
 * await program.pipe(
 *   Effect.provide(RedisBacking.layer(redis)),
 *   Effect.ensuring(Effect.sync(() => redis.disconnect())),
 *   Effect.runPromise
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  redis: Redis | Cluster,
  options: RedisBackingOptions = {}
): Layer.Layer<DistributedSemaphoreBacking> => Layer.effect(DistributedSemaphoreBacking, make(redis, options))

const make = Effect.fnUntraced(function*(redis: Redis | Cluster, options: RedisBackingOptions) {
  const keyPrefix = options.keyPrefix ?? "semaphore:"
  const publish = Subscriber.isCluster(redis) ? "SPUBLISH" : "PUBLISH"

  /** This layer, as the one that listens for its waiters. */
  const listener = crypto.randomUUID()
  const channelPrefix = Subscriber.keyPrefixOf(redis) + keyPrefix
  const channel = (key: string) => channelOf(channelPrefix, key, listener)
  const notifications = options.pushBasedAcquireEnabled === false ? undefined : yield* Notifications.make(
    Subscriber.open(redis),
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )

  const run = <A>(operation: string, script: Scripts.Script, key: string, ...args: ReadonlyArray<string | number>) =>
    Effect.tryPromise({
      try: (signal) => Scripts.run(redis, script, keysOf(keyPrefix, key), args, signal) as Promise<A>,
      catch: (cause) => new SemaphoreBackingError({ operation, cause })
    })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      Effect.suspend(() =>
        run<ReadonlyArray<string>>(
          "tryAcquire",
          Scripts.tryAcquire,
          key,
          publish,
          escape(holderId),
          micros(ttl),
          limit,
          permits,
          options?.queue ? 1 : 0,
          notifications?.stands(channel(key)) ? listener : ""
        )
      ).pipe(Effect.map(([answer, first = "", retryAfter = ""]) => {
        switch (answer) {
          case "acquired":
            return { _tag: "Acquired", fencingToken: token(first) }
          case "waiting":
            return {
              _tag: "Waiting",
              position: Number(first),
              retryAfter: retryAfter === "" ? undefined : Duration.millis(Math.ceil(Number(retryAfter) / 1000))
            }
          default:
            return false
        }
      })),

    release: (key, holderId, permits) =>
      Effect.map(run("release", Scripts.release, key, publish, escape(holderId), permits), Number),

    refresh: (key, holderId, ttl) =>
      Effect.map(
        run<string>("refresh", Scripts.refresh, key, publish, escape(holderId), micros(ttl)),
        (answer) => answer !== "" && { _tag: "Acquired", fencingToken: token(answer) }
      ),

    getCount: (key) => Effect.map(run("getCount", Scripts.getCount, key), Number),

    onPermitsReleased: notifications &&
      ((key, holderId) => notifications.listen(channel(key), holderId && escape(holderId))),

    inspect: (key) => Effect.map(run<InspectReply>("inspect", Scripts.inspect, key), stateOf)
  })
})

const token = (text: string) => FencingToken(BigInt(text))

/** More than a century is for ever, and still exact in Lua. */
const micros = (ttl: Duration.Duration) => Math.min(Math.ceil(Duration.toMillis(ttl) * 1000), 2 ** 52)

const remaining = (micros: string) => Duration.micros(BigInt(micros))

const stateOf = ([holders, line]: InspectReply): SemaphoreState => ({
  holders: holders.map(([id, permits, number, micros]) => ({
    identifier: unescape(id),
    permits: Number(permits),
    fencingToken: token(number),
    remaining: remaining(micros)
  })).toSorted((a, b) => a.fencingToken < b.fencingToken ? -1 : 1),
  line: line.map(([id, permits, micros]) => ({
    identifier: unescape(id),
    permits: Number(permits),
    remaining: remaining(micros)
  }))
})

type InspectReply = readonly [
  holders: ReadonlyArray<readonly [id: string, permits: string, token: string, micros: string]>,
  line: ReadonlyArray<readonly [id: string, permits: string, micros: string]>
]
