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
import type { Acquired, RefreshRequest, SemaphoreState, Waiting } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import * as ServerTime from "../internal/serverTime.ts"
import { channelOf, escape, keysOf, unescape } from "./names.ts"
import * as Notifications from "./notifications.ts"
import { callsOf, micros } from "./refreshes.ts"
import * as Scripts from "./scripts.ts"
import * as Slots from "./slots.ts"
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
  const clientPrefix = Subscriber.keyPrefixOf(redis)
  const cluster = Subscriber.isCluster(redis) ? redis : undefined
  const publish = cluster ? "SPUBLISH" : "PUBLISH"
  const slotOf = (key: string) => cluster ? Slots.slotOf(clientPrefix + keysOf(keyPrefix, key)[0]) : 0
  const nodeOf = (key: string) => cluster ? Slots.nodeOf(cluster, slotOf(key)) : ""
  const serverTime = ServerTime.make()

  const notifications = options.pushBasedAcquireEnabled === false ? undefined : yield* Notifications.make(
    Subscriber.open(redis),
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )
  /** This layer, as the one that listens for its waiters. */
  const listener = notifications === undefined ? "" : crypto.randomUUID()
  const channel = (key: string) => channelOf(clientPrefix + keyPrefix, key, listener)
  const canNotify = (key: string) =>
    notifications !== undefined && !notifications.isIdle() && notifications.stands(channel(key))

  const run = <A extends Reply>(
    operation: string,
    script: Scripts.Script,
    semaphore: string,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>
  ) =>
    Effect.suspend(() => {
      const sent = ServerTime.localTime()
      return Effect.map(
        Effect.tryPromise({
          try: (signal) => Scripts.run(redis, script, keys, args, signal) as Promise<A>,
          catch: (cause) => new SemaphoreBackingError({ operation, cause })
        }),
        (reply) => {
          serverTime.learn(nodeOf(semaphore), sent, Number(reply[0]))
          return reply
        }
      )
    })

  const runOne = <A extends Reply>(
    operation: string,
    script: Scripts.Script,
    key: string,
    ...args: ReadonlyArray<string | number>
  ) => run<A>(operation, script, key, keysOf(keyPrefix, key), args)

  /** By node. All that need the time wait for the same reply, so that none overtakes another. */
  const questions = new Map<string, { readonly reply: Promise<void>; readonly until: number }>()

  /** Asks for the time by an acquire that is late already. So the server also knows the script when all go on. */
  const askTime = (key: string, within: Duration.Duration) =>
    Effect.tryPromise({
      try: () => {
        const sent = ServerTime.localTime()
        const node = nodeOf(key)
        const asked = questions.get(node)
        if (asked !== undefined && sent < asked.until) return asked.reply
        const until = sent + micros(within)
        const reply = Scripts.run(redis, Scripts.tryAcquire, keysOf(keyPrefix, key), [publish, listener, 0])
          .then((reply) => serverTime.learn(nodeOf(key), sent, Number((reply as Reply)[0])))
          .finally(() => {
            if (questions.get(node)?.until === until) questions.delete(node)
          })
        questions.set(node, { reply, until })
        return reply
      },
      catch: (cause) => new SemaphoreBackingError({ operation: "tryAcquire", cause })
    })

  /** The latest time of the server at which a request of now may take effect, or empty if it always may. */
  const latest = (key: string, within: Duration.Duration | undefined) =>
    Effect.suspend(() => {
      if (within === undefined) return Effect.succeed("")
      const start = ServerTime.localTime()
      const bound: Effect.Effect<string, SemaphoreBackingError> = Effect.suspend(() => {
        const time = serverTime.at(nodeOf(key), start)
        return time === undefined
          ? Effect.andThen(askTime(key, within), bound)
          : Effect.succeed(String(time + micros(within)))
      })
      return bound
    })

  const refreshAll = (requests: ReadonlyArray<RefreshRequest>) =>
    Effect.suspend(() => {
      const stood = new Map(requests.map(({ key }) => [key, canNotify(key)]))
      const results: Array<Answer> = []
      return Effect.as(
        Effect.forEach(
          callsOf(requests, (key) => keysOf(keyPrefix, key), slotOf),
          ({ args, indices, keys, semaphore }) =>
            Effect.map(
              run<readonly [string, ...ReadonlyArray<ContenderReply>]>("refresh", Scripts.refreshAll, semaphore, keys, [
                publish,
                listener,
                ...args
              ]),
              ([, ...replies]) => {
                for (const [position, index] of indices.entries()) {
                  const { key } = requests[index]!
                  results[index] = answerOf(replies[position]!, stood.get(key)! && canNotify(key))
                }
              }
            ),
          { concurrency: "unbounded", discard: true }
        ),
        results
      )
    })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      Effect.flatMap(latest(key, options?.within), (latest) => {
        const stood = canNotify(key)
        return Effect.flatMap(
          runOne<readonly [string, ContenderReply]>(
            "tryAcquire",
            Scripts.tryAcquire,
            key,
            publish,
            listener,
            latest,
            escape(holderId),
            micros(ttl),
            limit,
            permits,
            options?.queue ? 1 : 0
          ),
          ([, reply]) =>
            reply[0] === "late"
              ? Effect.fail(new SemaphoreBackingError({ operation: "tryAcquire", cause: new Error(lateMessage) }))
              : Effect.succeed(answerOf(reply, stood && canNotify(key)))
        )
      }),

    release: (key, holderId, permits, options) =>
      Effect.map(
        runOne<readonly [string, string]>(
          "release",
          Scripts.release,
          key,
          publish,
          listener,
          escape(holderId),
          permits,
          String(options?.fencingToken ?? "")
        ),
        ([, freed]) => Number(freed)
      ),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      Effect.map(refreshAll([{ key, holderId, ttl, limit, permits, ...options }]), ([answer]) => answer!),

    refreshAll,

    getCount: (key) =>
      Effect.map(
        runOne<readonly [string, string]>("getCount", Scripts.getCount, key),
        ([, count]) => Number(count)
      ),

    onPermitsReleased: notifications && ((key) => notifications.listen(channel(key))),

    inspect: (key) => Effect.map(runOne<InspectReply>("inspect", Scripts.inspect, key), stateOf)
  })
})

const lateMessage = "The request reached the server later than it may take effect: it had no effect"

type Answer = false | Acquired | Waiting

/** The server's time in microseconds, and what the script has to say. */
type Reply = readonly [time: string, ...ReadonlyArray<unknown>]

type ContenderReply = readonly [answer: string, token?: string, position?: string, retryAfter?: string]

/** A waiter is told when to refresh only if the channel stood when it asked, and stands: otherwise it may miss its grant. */
const answerOf = ([answer, number = "", position, retryAfter]: ContenderReply, stands: boolean): Answer => {
  switch (answer) {
    case "acquired":
      return { _tag: "Acquired", fencingToken: token(number) }
    case "waiting":
      return {
        _tag: "Waiting",
        fencingToken: token(number),
        position: Number(position),
        retryAfter: stands ? Duration.millis(Math.ceil(Number(retryAfter) / 1000)) : undefined
      }
    default:
      return false
  }
}

const token = (text: string) => FencingToken(BigInt(text))

const stateOf = ([, holders, line]: InspectReply): SemaphoreState => {
  const describe = ([id, permits, number, micros]: ContenderState) => ({
    identifier: unescape(id),
    permits: Number(permits),
    fencingToken: token(number),
    remaining: Duration.micros(BigInt(micros))
  })
  return { holders: holders.map(describe), line: line.map(describe) }
}

type ContenderState = readonly [id: string, permits: string, token: string, micros: string]

type InspectReply = readonly [
  time: string,
  holders: ReadonlyArray<ContenderState>,
  line: ReadonlyArray<ContenderState>
]
