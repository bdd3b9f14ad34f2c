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
import * as Calls from "./calls.ts"
import { channelOf, escape, keyOf, unescape } from "./names.ts"
import * as Notifications from "./notifications.ts"
import { callsOf, micros } from "./refreshes.ts"
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
  const slotOf = (key: string) => cluster ? Slots.slotOf(clientPrefix + keyOf(keyPrefix, key)) : 0
  const nodeOf = (key: string) => cluster ? Slots.nodeOf(cluster, slotOf(key)) : ""
  const serverTime = ServerTime.make()

  const notifications = options.pushBasedAcquireEnabled === false ? undefined : yield* Notifications.make(
    Subscriber.open(redis),
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )
  /** This layer, as the one that listens for its waiters. Short, because Redis keeps entries of up to 64 bytes more compactly. */
  const listener = notifications === undefined ? "" : crypto.getRandomValues(new BigUint64Array(1))[0]!.toString(36)
  const channel = (key: string) => channelOf(clientPrefix + keyPrefix, key, listener)
  const canNotify = (key: string) =>
    notifications !== undefined && !notifications.isIdle() && notifications.stands(channel(key))

  const send = Calls.make(redis)

  /** Calls a script for one semaphore, or for several of one slot. */
  const call = <R extends Reply, A>(
    operation: string,
    semaphore: string,
    call: Calls.Call,
    answer: (reply: R) => A | SemaphoreBackingError
  ): Effect.Effect<A, SemaphoreBackingError> =>
    Effect.callback((resume) => {
      const sent = ServerTime.localTime()
      const abandon = send<R>(call, (reply) => {
        serverTime.learn(nodeOf(semaphore), sent, Number(reply[0]))
        const result = answer(reply)
        resume(result instanceof SemaphoreBackingError ? Effect.fail(result) : Effect.succeed(result))
      }, (cause) => resume(Effect.fail(new SemaphoreBackingError({ operation, cause }))))
      return Effect.sync(abandon)
    })

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
        const late = { script: Scripts.tryAcquire, keys: [keyOf(keyPrefix, key)], args: [publish, listener, 0] }
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
    const latest = within === undefined ? "" : String(time! + micros(within))
    const stood = canNotify(key)
    const [most, asked] = [limit, permits].map((count) => Math.min(count, mostPermits)) as [number, number]
    const args = [publish, listener, latest, escape(holderId), micros(ttl), most, asked, queue ? 1 : 0]
    return call<readonly [string, ContenderReply], Answer>(
      "tryAcquire",
      key,
      { script: Scripts.tryAcquire, keys: [keyOf(keyPrefix, key)], args },
      ([, reply]) =>
        reply[0] === "late"
          ? ServerTime.lateError()
          : answerOf(reply, stood && canNotify(key))
    )
  }

  const refreshAll = (requests: ReadonlyArray<RefreshRequest>) =>
    Effect.suspend(() => {
      const stood = new Map(requests.map(({ key }) => [key, canNotify(key)]))
      const results: Array<Answer> = []
      return Effect.as(
        Effect.forEach(
          callsOf(requests, (key) => keyOf(keyPrefix, key), slotOf),
          ({ args, indices, keys, semaphore }) =>
            call<readonly [string, ...ReadonlyArray<ContenderReply>], void>(
              "refresh",
              semaphore,
              { script: Scripts.refreshAll, keys, args: [publish, listener, ...args] },
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

  const look = <R extends Reply, A>(operation: string, script: Scripts.Script, key: string, answer: (reply: R) => A) =>
    call<R, A>(operation, key, { script, keys: [keyOf(keyPrefix, key)], args: [] }, answer)

  return DistributedSemaphoreBacking.of({
    // An attempt begins when it runs.
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      Effect.suspend(() => tryAcquire(key, holderId, ttl, limit, permits, options)),

    release: (key, holderId, permits, options) =>
      call<readonly [string, string], number>(
        "release",
        key,
        {
          script: Scripts.release,
          keys: [keyOf(keyPrefix, key)],
          args: [publish, listener, escape(holderId), permits, String(options?.fencingToken ?? "")]
        },
        ([, freed]) => Number(freed)
      ),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      Effect.map(refreshAll([{ key, holderId, ttl, limit, permits, ...options }]), ([answer]) => answer!),

    refreshAll,

    getCount: (key) =>
      look<readonly [string, string], number>("getCount", Scripts.getCount, key, ([, count]) => Number(count)),

    onPermitsReleased: notifications && ((key) => notifications.listen(channel(key))),

    inspect: (key) => look<InspectReply, SemaphoreState>("inspect", Scripts.inspect, key, stateOf)
  })
})

/** More than some quadrillions count as so many: the sums of a semaphore must stay in their range of scores. */
const mostPermits = 2 ** 52 - 1

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
  return {
    holders: holders.map(describe),
    line: line.map(describe),
    holderCount: holders.length,
    waiterCount: line.length
  }
}

type ContenderState = readonly [id: string, permits: string, token: string, micros: string]

type InspectReply = readonly [
  time: string,
  holders: ReadonlyArray<ContenderState>,
  line: ReadonlyArray<ContenderState>
]
