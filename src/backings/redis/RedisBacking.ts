/**
 * Semaphores in Redis, through an ioredis client: a single server, or a Cluster.
 *
 * **When to use**
 *
 * Use it for the common single instance. The README says what a failover to a replica can lose.
 *
 * **Gotchas**
 *
 * The server must not evict keys (`maxmemory-policy noeviction`).
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Cluster, Redis } from "ioredis"
import type { RefreshRequest } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, mostListed } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { positiveDuration, refuse } from "../../core/internal/options.ts"
import { resolveOwner } from "../internal/owner.ts"
import * as ServerTime from "../internal/serverTime.ts"
import * as Calls from "./calls.ts"
import * as Keys from "./keys.ts"
import * as Names from "./names.ts"
import { escape } from "./names.ts"
import * as Notifications from "./notifications.ts"
import { callsOf, micros } from "./refreshes.ts"
import type { Answer, InspectReply, Reply } from "./replies.ts"
import * as Replies from "./replies.ts"
import * as Scripts from "./scripts.ts"
import * as Slots from "./slots.ts"
import * as Subscriber from "./subscriber.ts"

/**
 * The options of `RedisBacking.layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisBackingOptions {
  /** What all keys and channels start with, `"semaphore:"` by default. The client's own `keyPrefix` comes before it. */
  readonly keyPrefix?: string | undefined
  /**
   * Whether waiters are notified of grants, and holders of revocations, by one more connection: `true` by default.
   * Otherwise waiters poll, and a holder learns of a revocation when it refreshes. With a Cluster, notifications need
   * Redis 7, for sharded pub/sub.
   */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /**
   * When to repeat a subscription that the server refused: every second by default. Once the schedule ends, waiters
   * poll. A lost connection is restored in any case.
   */
  readonly pushStreamRetrySchedule?: Schedule.Schedule<unknown> | undefined
  /**
   * How long nobody acquires after the server has come back empty, because old holders may still be at work. Set it to
   * the longest `ttl` in use, in all processes. Off by default; not for a Cluster. The first start counts as a restart,
   * too.
   */
  readonly restartGrace?: Duration.Input | undefined
  /** The name by which `inspect` lists this process: its host name and process id by default. */
  readonly owner?: string | undefined
}

/**
 * Keeps semaphores in the Redis of `redis`. The client stays yours: the layer neither configures nor closes it.
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

/**
 * Like `layer`, but reads its options from the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  redis: Redis | Cluster,
  config: Config.Wrap<Pick<RedisBackingOptions, "keyPrefix" | "pushBasedAcquireEnabled" | "restartGrace" | "owner">>
): Layer.Layer<DistributedSemaphoreBacking, Config.ConfigError> =>
  Layer.effect(
    DistributedSemaphoreBacking,
    Effect.flatMap(Config.unwrap(config), (options) => make(redis, options))
  )

const make = Effect.fnUntraced(function*(redis: Redis | Cluster, options: RedisBackingOptions) {
  const owner = resolveOwner(options.owner)
  const grace = graceOf(options.restartGrace, redis)
  const keyPrefix = options.keyPrefix ?? "semaphore:"
  /** The client puts its own prefix before keys, but not before channels and patterns. */
  const fullPrefix = Subscriber.keyPrefixOf(redis) + keyPrefix
  const keyOf = (key: string) => Names.keyOf(keyPrefix, key)
  const cluster = Subscriber.isCluster(redis) ? redis : undefined
  const publish = cluster ? "SPUBLISH" : "PUBLISH"
  const slotOf = (key: string) => cluster ? Slots.slotOf(Names.keyOf(fullPrefix, key)) : 0
  const nodeOf = (key: string) => cluster ? Slots.nodeOf(cluster, slotOf(key)) : ""
  const serverTime = ServerTime.make()

  const notifications = options.pushBasedAcquireEnabled === false ? undefined : yield* Notifications.make(
    Subscriber.open(redis),
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )
  // What releases granted may have been in replies that were lost.
  if (notifications !== undefined) yield* Subscriber.onReconnect(redis, notifications.missed)
  const listener = notifications === undefined ? "" : Names.newListener()
  const asker = { publish, process: `${listener}:${escape(owner)}` } as const
  const channel = (key: string) => Names.channelOf(fullPrefix, key, listener)
  const stoodSince = (key: string, moment: number) => notifications?.stoodSince(channel(key), moment) ?? false

  const send = Calls.make(redis)

  /** Calls a script for one semaphore, or for several of one slot. */
  const call = <R extends Reply, A>(
    operation: string,
    semaphore: string,
    call: Scripts.Call<R>,
    answer: (reply: R) => A | SemaphoreBackingError
  ): Effect.Effect<A, SemaphoreBackingError> =>
    Effect.callback((resume) => {
      const sent = ServerTime.localTime()
      const abandon = send(call, (reply) => {
        serverTime.learn(nodeOf(semaphore), sent, Number(reply[0]))
        const result = answer(reply)
        resume(result instanceof SemaphoreBackingError ? Effect.fail(result) : Effect.succeed(result))
      }, (cause) => resume(Effect.fail(new SemaphoreBackingError({ operation, cause }))))
      return Effect.sync(abandon)
    })

  const acquire = (
    request: Pick<RefreshRequest, "key" | "holderId" | "ttl" | "limit" | "permits">,
    queue: boolean,
    latest: number | ""
  ) =>
    Scripts.tryAcquire.call({
      ...asker,
      key: keyOf(request.key),
      restartKey: grace === undefined ? undefined : Names.restartOf(keyPrefix),
      latest,
      identifier: escape(request.holderId),
      ttlMicros: micros(request.ttl),
      limit: Math.min(request.limit, Replies.mostPermits),
      permits: Math.min(request.permits, Replies.mostPermits),
      queue,
      graceMicros: grace ?? 0
    })

  /**
   * The requests for the time, by node. All acquires that need it wait for the same reply, so that none overtakes
   * another.
   */
  const questions = new Map<string, { readonly reply: Promise<void>; readonly until: number }>()

  /**
   * Asks for the time by an acquire that is late already. So the server also knows the script when the others go on.
   */
  const askTime = (key: string, within: Duration.Duration) =>
    Effect.tryPromise({
      try: () => {
        const sent = ServerTime.localTime()
        const node = nodeOf(key)
        const asked = questions.get(node)
        if (asked !== undefined && sent < asked.until) return asked.reply
        const until = sent + micros(within)
        const late = acquire({ key, holderId: "", ttl: within, limit: 1, permits: 1 }, false, 0)
        const reply = new Promise<Reply>((resolve, reject) => send(late, resolve, reject))
          .then(([time]) => serverTime.learn(nodeOf(key), sent, Number(time)))
          .finally(() => {
            if (questions.get(node)?.until === until) questions.delete(node)
          })
        questions.set(node, { reply, until })
        return reply
      },
      catch: (cause) => new SemaphoreBackingError({ operation: "tryAcquire", cause })
    })

  const tryAcquire = (
    key: string,
    holderId: string,
    ttl: Duration.Duration,
    limit: number,
    permits: number,
    { queue, within }: { readonly queue?: boolean | undefined; readonly within?: Duration.Duration | undefined } = {},
    start = ServerTime.localTime()
  ): Effect.Effect<Answer, SemaphoreBackingError> => {
    const time = within && serverTime.at(nodeOf(key), start)
    if (within !== undefined && time === undefined) {
      return Effect.flatMap(
        askTime(key, within),
        () => tryAcquire(key, holderId, ttl, limit, permits, { queue, within }, start)
      )
    }
    const latest = within === undefined ? "" : time! + micros(within)
    const sent = performance.now()
    const request = { key, holderId, ttl, limit, permits }
    return call(
      "tryAcquire",
      key,
      acquire(request, queue ?? false, latest),
      ([, reply]) =>
        reply[0] === "late"
          ? ServerTime.lateError()
          : Replies.answerOf(reply, request, () => stoodSince(key, sent))
    )
  }

  const refreshAll = (requests: ReadonlyArray<RefreshRequest>) =>
    Effect.suspend(() => {
      const sent = performance.now()
      const results: Array<Answer> = []
      return Effect.as(
        Effect.forEach(
          callsOf(requests, keyOf, slotOf),
          ({ indices, keys, requests: ofCall, semaphore }) =>
            call(
              "refresh",
              semaphore,
              Scripts.refreshAll.call({ ...asker, keys, requests: ofCall }),
              ([, ...replies]) => {
                for (const [position, index] of indices.entries()) {
                  const request = requests[index]!
                  results[index] = Replies.answerOf(replies[position]!, request, () => stoodSince(request.key, sent))
                }
              }
            ),
          { concurrency: "unbounded", discard: true }
        ),
        results
      )
    })

  const inspect = <A>(operation: string, key: string, most: number, answer: (reply: InspectReply) => A) =>
    call(operation, key, Scripts.inspect.call({ key: keyOf(key), most }), answer)

  /** Publishes a revocation after the release. Nobody waits for this, because a message may be missed anyway. */
  const announce = (key: string, holderId: string) => {
    const message = Replies.revocationMessage(key, holderId)
    send(Scripts.publish.call({ publish, channel: Names.revocationsOf(keyPrefix), message }), ignore, ignore)
  }

  /** Has a key's watchers notified of all its changes, for a new key from a second after its creation at the latest. */
  const watch = (key: string) =>
    Stream.tick("1 second").pipe(
      Stream.mapEffect(() =>
        Effect.ignore(call("watch", key, Scripts.watch.call({ key: keyOf(key), micros: watchMicros }), ignore))
      ),
      Stream.drain
    )

  return DistributedSemaphoreBacking.of({
    // The attempt begins when the effect runs.
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      Effect.suspend(() => tryAcquire(key, holderId, ttl, limit, permits, options)),

    release: (key, holderId, permits, options) =>
      call(
        "release",
        key,
        Scripts.release.call({
          ...asker,
          key: keyOf(key),
          identifier: escape(holderId),
          permits,
          token: String(options?.fencingToken ?? "")
        }),
        ([, freed, granted]) => {
          if (granted !== "") notifications?.notify(channel(key), granted)
          if (options?.revoke) announce(key, holderId)
          return Number(freed)
        }
      ),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      Effect.map(
        refreshAll([{ key, holderId, ttl, limit, permits, fencingToken: options?.fencingToken }]),
        ([answer]) => answer!
      ),

    refreshAll,

    getCount: (key) => call("getCount", key, Scripts.getCount.call({ key: keyOf(key) }), ([, count]) => Number(count)),

    onPermitsReleased: notifications && ((key) => notifications.listen(channel(key), Replies.grantsOf)),

    onRevoked: notifications?.listen(Names.revocationsOf(fullPrefix), Replies.revocationsOf),

    inspect: (key) => inspect("inspect", key, mostListed, Replies.stateOf),

    onChanged: notifications &&
      ((key) => Stream.merge(notifications.listen(Names.watchersOf(fullPrefix, key), () => [undefined]), watch(key))),

    keys: Keys.make(
      redis,
      fullPrefix,
      (key) => inspect("keys", key, 0, ([, holders, waiters]) => Number(holders) + Number(waiters) > 0)
    )
  })
})

/** Returns the grace in microseconds. */
const graceOf = (input: Duration.Input | undefined, redis: Redis | Cluster): number | undefined => {
  if (input === undefined) return undefined
  const grace = positiveDuration("restartGrace", input)
  return Subscriber.isCluster(redis) ? refuse("restartGrace", grace, "absent with a Cluster") : micros(grace)
}

/** How long a watcher that is gone is still notified. */
const watchMicros = 5_000_000

const ignore = () => {}
