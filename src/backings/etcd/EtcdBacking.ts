/**
 * Semaphores in etcd, through a client of `etcd3`.
 *
 * **When to use**
 *
 * Use it where the promises of a semaphore must survive the loss of a store node: a cluster of three may lose any one
 * of them.
 *
 * **Gotchas**
 *
 * etcd counts leases in whole seconds, and grants none below its floor (2 s, with its default settings): a hold that is
 * neither released nor refreshed lasts at least that long. `docs/etcd.md` says how to configure the client.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Etcd3 } from "etcd3"
import type { RefreshRequest } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { resolveOwner } from "../internal/owner.ts"
import { Leases } from "./leases.ts"
import * as Lines from "./lines.ts"
import * as Names from "./names.ts"
import * as Operations from "./operations.ts"
import * as Operators from "./operators.ts"
import * as Store from "./store.ts"

/**
 * The options of `EtcdBacking.layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface EtcdBackingOptions {
  /** What all keys start with, `"semaphore/"` by default. */
  readonly keyPrefix?: string | undefined
  /**
   * Whether waiters are notified of grants, by one watch for each key, and holders of revocations: `true` by default.
   * Otherwise waiters poll, and a holder learns of a revocation when it refreshes.
   */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /** The name by which `inspect` lists this process: its host name and process id by default. */
  readonly owner?: string | undefined
  /** When to watch again after a watch has broken: every second by default. Once the schedule ends, waiters poll. */
  readonly pushStreamRetrySchedule?: Schedule.Schedule<unknown> | undefined
}

const defaultPrefix = "semaphore/"

/**
 * Keeps semaphores in the etcd of `client`. The client stays yours: the layer neither configures nor closes it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (client: Etcd3, options: EtcdBackingOptions = {}): Layer.Layer<DistributedSemaphoreBacking> =>
  Layer.effect(DistributedSemaphoreBacking, make(client, options))

/**
 * Like `layer`, but reads its options from the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  client: Etcd3,
  config: Config.Wrap<Pick<EtcdBackingOptions, "keyPrefix" | "pushBasedAcquireEnabled" | "owner">>
): Layer.Layer<DistributedSemaphoreBacking, Config.ConfigError> =>
  Layer.effect(
    DistributedSemaphoreBacking,
    Effect.flatMap(Config.unwrap(config), (options) => make(client, options))
  )

/**
 * Returns the name that a hold has in etcd. The `create_revision` of this key is the fencing token: compare the two in
 * a txn that may write only while the hold lasts.
 *
 * **Gotchas**
 *
 * A holder that acquires another number of permits, under the same identifier and without a release in between, gets
 * another name. So compare `create_revision` with the token: it is not enough that the key exists.
 *
 * @category fencing
 * @since 0.1.0
 */
export const holdName = (
  key: string,
  identifier: string,
  options: Pick<EtcdBackingOptions, "keyPrefix"> = {}
): string => `${Names.contender(Names.semaphore(options.keyPrefix ?? defaultPrefix, key), identifier)}a`

const make = Effect.fnUntraced(function*(client: Etcd3, options: EtcdBackingOptions) {
  const prefix = options.keyPrefix ?? defaultPrefix
  const store = Store.make(client)
  const owner = resolveOwner(options.owner)
  const leases = new Leases(store)
  yield* Effect.addFinalizer(() => Effect.ensuring(leases.close, Effect.sync(() => store.keepAlives.close())))
  const watches = options.pushBasedAcquireEnabled !== false
  const lines = yield* Lines.make(
    store,
    watches,
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second"),
    (names, { identifier, token }) => {
      const member = leases.member(Names.contender(names, identifier))
      if (member?.token !== token) return false
      member.holds = true
      return true
    }
  )
  const { refreshAll, release, tryAcquire } = Operations.make(store, leases, lines, owner)
  const closed = yield* Deferred.make<void>()
  yield* Effect.addFinalizer(() => Deferred.succeed(closed, undefined))
  const operators = Operators.make(store, lines, prefix, Deferred.await(closed))

  const request = (key: string, identifier: string) => {
    const names = Names.semaphore(prefix, key)
    return { names, identifier, contender: Names.contender(names, identifier) }
  }

  const refresh = (requests: ReadonlyArray<RefreshRequest>) =>
    failsAs("refresh", () =>
      refreshAll(requests.map(({ fencingToken, holderId, key, limit, permits, ttl }) => ({
        ...request(key, holderId),
        ttl: wholeSeconds(ttl),
        limit,
        permits,
        token: fencingToken
      }))))

  return DistributedSemaphoreBacking.of({
    // `within` is not needed: a request that takes effect too late ends with its lease (B12).
    tryAcquire: (key, identifier, ttl, limit, permits, options) =>
      failsAs("tryAcquire", () =>
        tryAcquire({
          ...request(key, identifier),
          ttl: wholeSeconds(ttl),
          limit,
          permits,
          queue: options?.queue ?? false
        })),

    release: (key, identifier, permits, options) =>
      failsAs("release", () => {
        const releasing = release(request(key, identifier), permits, options?.fencingToken)
        return options?.revoke
          ? Effect.tap(releasing, Effect.ignore(operators.notify({ key, holderId: identifier })))
          : releasing
      }),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      Effect.map(
        refresh([{ key, holderId, ttl, limit, permits, fencingToken: options?.fencingToken }]),
        ([answer]) => answer!
      ),

    refreshAll: refresh,

    getCount: (key) =>
      failsAs("getCount", () => Effect.map(lines.look(Names.semaphore(prefix, key)), ({ held }) => held)),

    onPermitsReleased: watches ? (key) => lines.listen(Names.semaphore(prefix, key)) : undefined,

    onRevoked: watches ? operators.onRevoked : undefined,

    inspect: (key) => failsAs("inspect", () => operators.inspect(Names.semaphore(prefix, key))),

    onChanged: watches ? (key) => lines.changes(Names.semaphore(prefix, key)) : undefined,

    keys: Stream.mapError(operators.keys, failure("keys"))
  })
})

const failure = (operation: string) => (cause: Error) => new SemaphoreBackingError({ operation, cause })

const failsAs = <A>(operation: string, effect: () => Effect.Effect<A, Error>) =>
  Effect.mapError(Effect.suspend(effect), failure(operation))

/** Rounds up, because etcd counts in whole seconds. More than a century is for ever. */
const wholeSeconds = (ttl: Duration.Duration): number => Math.min(Math.ceil(Duration.toSeconds(ttl)), 4e9)
