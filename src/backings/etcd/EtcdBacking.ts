/**
 * Semaphores in etcd, through a client of `etcd3`.
 *
 * **When to use**
 *
 * Use it where what a semaphore promises must survive the loss of a store node: of a cluster of three, any one may go.
 *
 * **Gotchas**
 *
 * etcd counts leases in whole seconds, and grants none below its floor (2 s, with its default settings): a hold that is
 * neither released nor refreshed lasts at least that long. How the client should be configured is told in `docs/etcd.md`.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Layer, Schedule } from "effect"
import type { Etcd3 } from "etcd3"
import type { SemaphoreState } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { look, viewOf } from "./answers.ts"
import * as Contenders from "./contenders.ts"
import type { Contender } from "./contenders.ts"
import * as Leases from "./leases.ts"
import * as Mirrors from "./mirrors.ts"
import * as Names from "./names.ts"
import * as Operations from "./operations.ts"
import * as Requests from "./requests.ts"
import * as Store from "./store.ts"
import * as View from "./view.ts"

/**
 * @category options
 * @since 0.1.0
 */
export interface EtcdBackingOptions {
  /** What all keys start with, `"semaphore/"` by default. */
  readonly keyPrefix?: string | undefined
  /** Whether waiters are notified, `true` by default, by one watch for each key that this process waits for. Otherwise they poll. */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /** When to watch again after a watch has broken: every second by default. When it ends, waiters poll. */
  readonly pushStreamRetrySchedule?: Schedule.Schedule<unknown> | undefined
}

const defaultPrefix = "semaphore/"

/**
 * Keeps semaphores in the etcd of `client`, which stays yours: it is neither configured nor closed.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (client: Etcd3, options: EtcdBackingOptions = {}): Layer.Layer<DistributedSemaphoreBacking> =>
  Layer.effect(DistributedSemaphoreBacking, make(client, options))

/**
 * The name in etcd of a hold, whose `create_revision` is its fencing token: for a txn that writes only while the hold lasts.
 *
 * **Gotchas**
 *
 * A holder that acquires another number of permits, under the same identifier and without a release in between, goes to
 * another name. So compare `create_revision` with the token, and not only whether there is such a key.
 *
 * @category fencing
 * @since 0.1.0
 */
export const holdName = (
  key: string,
  identifier: string,
  options: Pick<EtcdBackingOptions, "keyPrefix"> = {}
): string => Names.contender(options.keyPrefix ?? defaultPrefix, key, identifier).hold.a.toString()

const make = Effect.fnUntraced(function*(client: Etcd3, options: EtcdBackingOptions) {
  const prefix = options.keyPrefix ?? defaultPrefix
  const store = Store.make(client)
  const leases = yield* Leases.make(store)
  const contenders = Contenders.make(leases)

  const mirrors = options.pushBasedAcquireEnabled === false ? undefined : yield* Mirrors.make(
    store,
    (key) => Names.semaphore(prefix, key),
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )

  const { refresh, release, tryAcquire } = Operations.make(store, leases, contenders, mirrors)

  /** The operation `name`, of a contender. */
  const operate = <A>(
    name: string,
    key: string,
    identifier: string,
    operation: (names: Names.ContenderNames, contender: Contender) => Effect.Effect<A, Error>
  ) =>
    Effect.suspend(() => {
      const names = Names.contender(prefix, key, identifier)
      return failsAs(name, contenders.operate(names, (contender) => operation(names, contender)))
    })

  /** In whole seconds, rounded down. */
  const timeLeft = (entries: Iterable<View.Hold | View.Place>) =>
    Effect.map(
      Effect.forEach(new Set(Array.from(entries, ({ lease }) => lease)), (lease) =>
        Effect.map(store.secondsLeft(lease), (seconds) =>
          [lease, Duration.seconds(Math.max(0, seconds))] as const), {
        concurrency: 16
      }),
      (times) =>
        new Map(times)
    )

  const stateOf = Effect.fnUntraced(function*({ holds, line }: View.View) {
    const times = yield* timeLeft([...holds.values(), ...line.values()])
    const describe = ([identifier, { lease, permits }]: readonly [string, View.Hold | View.Place]) => ({
      identifier,
      permits,
      remaining: times.get(lease)!
    })
    return {
      holders: Array.from(holds, (entry) => ({ ...describe(entry), fencingToken: FencingToken(entry[1].created) })),
      line: Array.from(line, describe)
    } satisfies SemaphoreState
  })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, identifier, ttl, limit, permits, options) =>
      operate("tryAcquire", key, identifier, (names, contender) => {
        const request = { key, identifier, ttl: wholeSeconds(ttl), limit, permits, queue: options?.queue ?? false }
        return tryAcquire(request, names, contender)
      }),

    release: (key, identifier, permits) =>
      operate("release", key, identifier, (names, contender) => release(identifier, permits, names, contender)),

    refresh: (key, identifier, ttl) =>
      operate(
        "refresh",
        key,
        identifier,
        (names, contender) => refresh(identifier, wholeSeconds(ttl), names, contender)
      ),

    getCount: (key) =>
      Effect.suspend(() => {
        const names = Names.semaphore(prefix, key)
        return failsAs(
          "getCount",
          Effect.map(store.txn(Requests.holdsOf(names)), (answer) => View.held(viewOf(names, answer)))
        )
      }),

    onPermitsReleased: mirrors?.listen,

    inspect: (key) =>
      failsAs("inspect", Effect.flatMap(Effect.suspend(() => look(store, Names.semaphore(prefix, key))), stateOf))
  })
})

const failsAs = <A>(operation: string, effect: Effect.Effect<A, Error>) =>
  Effect.mapError(effect, (cause) => new SemaphoreBackingError({ operation, cause }))

/** What etcd counts in. More than a century is for ever. */
const wholeSeconds = (ttl: Duration.Duration): number => Math.min(Math.ceil(Duration.toSeconds(ttl)), 4e9)
