/**
 * A semaphore whose permits are shared by processes and services: at most `limit` are out at once, they are acquired in
 * order, released when the scope closes, and given back when a holder crashes. Work stops when its lease does.
 *
 * **Example** (Five at a time, across all processes)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { DistributedSemaphore, MemoryBacking } from "effect-distributed-lock"
 *
 * const program = Effect.gen(function*() {
 *   const semaphore = yield* DistributedSemaphore.make("invoices", { limit: 5, ttl: "10 seconds" })
 *   yield* Effect.log("holding two of five").pipe(semaphore.withPermits(2))
 * })
 *
 * await Effect.runPromise(Effect.provide(program, MemoryBacking.layer))
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { SemaphoreState } from "./Backing.ts"
import { DistributedSemaphoreBacking } from "./Backing.ts"
import type { LockLostError } from "./Errors.ts"
import { LockNotAcquiredError, SemaphoreBackingError } from "./Errors.ts"
import * as Attempt from "./internal/attempt.ts"
import { snapshots } from "./internal/changes.ts"
import { Contender, isGranted } from "./internal/contender.ts"
import { Held, leasesOf } from "./internal/held.ts"
import { Keeper } from "./internal/keeper.ts"
import * as Metrics from "./internal/metrics.ts"
import * as Observation from "./internal/observation.ts"
import { checkIdentifier, refuse, resolveConfig, resolveRequest } from "./internal/options.ts"
import * as Requests from "./internal/requests.ts"
import type { Lease } from "./Lease.ts"
import type { AcquireOptions, DistributedSemaphoreConfig } from "./Options.ts"

export type { AcquireOptions, DistributedSemaphoreConfig } from "./Options.ts"

/**
 * A semaphore with a key, backed by a store.
 *
 * **Details**
 *
 * To wait for a limited time, use `Effect.timeout`. Interrupting an acquire at any moment leaves nothing behind. Misuse
 * (such as more permits than the limit) dies with a `Cause.IllegalArgumentError` before the store is asked.
 *
 * @category models
 * @since 0.1.0
 */
export interface DistributedSemaphore {
  /** The name of the semaphore in the store. */
  readonly key: string

  /** How many permits there are in all. */
  readonly limit: number

  /**
   * Acquires permits, waiting in line if need be, runs the effect under their `Lease`, and releases them.
   *
   * **Details**
   *
   * If the lease is lost, the effect is interrupted and the result is `LockLostError`.
   */
  readonly withPermits: (permits: number, options?: AcquireOptions) => <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockLostError | LockNotAcquiredError | SemaphoreBackingError, Exclude<R, Lease>>

  /** `withPermits(1)`, as for a mutex. */
  readonly withPermit: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockLostError | LockNotAcquiredError | SemaphoreBackingError, Exclude<R, Lease>>

  /**
   * Like `withPermits`, but does not wait: `None` if the permits are not free, or others wait for them.
   */
  readonly withPermitsIfAvailable: (permits: number, options?: AcquireOptions) => <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | LockLostError | SemaphoreBackingError, Exclude<R, Lease>>

  /**
   * Acquires permits, waiting in line if need be, and holds them until the scope closes.
   *
   * **Gotchas**
   *
   * Nothing interrupts your work when the lease is lost: join the lease's `keepAlive` fiber to notice it, as `withPermits`
   * does.
   */
  readonly takeLease: (
    permits: number,
    options?: AcquireOptions
  ) => Effect.Effect<Lease["Service"], LockNotAcquiredError | SemaphoreBackingError, Scope.Scope>

  /** Like `takeLease`; returns the fiber that keeps the lease alive. */
  readonly take: (
    permits: number,
    options?: AcquireOptions
  ) => Effect.Effect<
    Fiber.Fiber<never, LockLostError | SemaphoreBackingError>,
    LockNotAcquiredError | SemaphoreBackingError,
    Scope.Scope
  >

  /** Like `take`, but does not wait: `None` if the permits are not free, or others wait for them. */
  readonly tryTake: (
    permits: number,
    options?: AcquireOptions
  ) => Effect.Effect<
    Option.Option<Fiber.Fiber<never, LockLostError | SemaphoreBackingError>>,
    SemaphoreBackingError,
    Scope.Scope
  >

  /** How many permits are held, by all holders together. */
  readonly currentCount: Effect.Effect<number, SemaphoreBackingError>

  /**
   * The holders and the waiters. Fails with a `SemaphoreBackingError` if the backing has no `inspect`.
   */
  readonly inspect: Effect.Effect<SemaphoreState, SemaphoreBackingError>

  /**
   * Emits what `inspect` returns, now and whenever holders or waiters change: at once where the store notifies of the change,
   * within a second otherwise. Changes that follow each other quickly may come as one.
   */
  readonly changes: Stream.Stream<SemaphoreState, SemaphoreBackingError>

  /**
   * Takes the hold or the place of an identifier away, for operators, and grants others the permits. Returns how many permits were
   * freed: 0 for a place, and for an unknown identifier.
   *
   * **Gotchas**
   *
   * The holder fails with a `LockLostError` whose reason is `"revoked"`: at once if the backing notifies of revocations and it has
   * held for longer than a second, otherwise at its next refresh. Until its work has stopped, there are two holders: guard what must
   * not be written twice by the fencing token. A waiter joins the end of the line again.
   */
  readonly revoke: (identifier: string) => Effect.Effect<number, SemaphoreBackingError>
}

/**
 * Makes the semaphore of a key. The store is not asked yet.
 *
 * **Details**
 *
 * Semaphores of one key should agree on `limit` and `ttl`. While they differ, as during a deployment, the smallest limit of a
 * contender and of those ahead of it in line counts for it, and each acquisition has its own ttl.
 *
 * Metrics, spans and debug logs are Effect's own. docs/operating.md lists them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  key: string,
  options: DistributedSemaphoreConfig = {}
): Effect.Effect<DistributedSemaphore, never, DistributedSemaphoreBacking> =>
  Effect.gen(function*() {
    const backing = yield* DistributedSemaphoreBacking
    const config = resolveConfig(key, options)
    const keeper = yield* Keeper.of(backing)
    const metricsFor = Metrics.make(options.metricsByKey ? key : undefined)
    yield* Effect.withFiber((fiber) => Effect.succeed(metricsFor(fiber)))

    /** Asks for permits. Only the asking is interruptible. Unless it succeeds, this gives back what the store may have given. */
    const acquire = <E>(
      permits: number,
      options: AcquireOptions | undefined,
      restore: Restore,
      ask: Ask<E>
    ): Effect.Effect<Held | undefined, E> =>
      Effect.withFiber((owner: Fiber.Fiber<unknown, unknown>) => {
        const request = resolveRequest(config.limit, permits, options)
        const contender = new Contender(keeper, config, request, metricsFor(owner), owner.context)
        const asked = Observation.take(contender, owner, restore(Effect.suspend(() => ask(contender, owner))))
        const answered = Effect.onError(asked, (cause) => {
          if (Observation.isRefusal(cause)) Observation.refused(contender)
          return Requests.giveBackBriefly(contender)
        })
        return Effect.flatMap(answered, (acquired) => {
          if (!acquired) {
            Observation.refused(contender)
            return Effect.as(Requests.giveBackBriefly(contender), undefined)
          }
          const held = new Held(contender, owner)
          return Observation.acquired(contender, owner, Effect.succeed(held))
        })
      })

    const take: Ask<LockNotAcquiredError | SemaphoreBackingError> = (contender, owner) => {
      const { name, request: { acquiredExternally, identifier } } = contender
      if (acquiredExternally) {
        return Effect.flatMap(Requests.confirm(contender), (confirmed) =>
          confirmed ? Effect.succeed(true) : Effect.fail(new LockNotAcquiredError({ key, identifier })))
      }
      refuseToWaitForItself(contender, leasesOf(owner, contender))
      const acquired = Effect.as(Requests.acquire(contender), true)
      return name.claimIfUnused() ? acquired : Effect.andThen(name.claim(), acquired)
    }

    const tryTake: Ask<SemaphoreBackingError> = (contender) => {
      const { name, request } = contender
      if (request.acquiredExternally) {
        return Requests.confirm(contender)
      }
      return Effect.andThen(
        name.givenBack(),
        Effect.suspend(() =>
          name.claimIfUnused()
            ? Effect.map(Requests.ask(contender), (answer) =>
              isGranted(answer))
            : Effect.succeed(false)
        )
      )
    }

    /** Runs an effect under a lease, and closes the lease in any case. */
    const underLease = <A, E, R>(
      lease: Held,
      effect: Effect.Effect<A, E, R>,
      restore: Restore
    ) => Effect.onExit(restore(lease.use(effect)), () => lease.close)

    const scoped = <E>(
      permits: number,
      options: AcquireOptions | undefined,
      ask: Ask<E>
    ): Effect.Effect<Held | undefined, E, Scope.Scope> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.tap(
          acquire(permits, options, restore, ask),
          (lease) => lease === undefined ? Effect.void : Effect.addFinalizer(() => lease.close)
        )
      )

    const takeLease = (permits: number, options?: AcquireOptions) =>
      Effect.map(scoped(permits, options, take), (lease) => lease!)

    const request = <A>(
      name: "getCount" | "inspect" | "release",
      operation: () => Effect.Effect<A, SemaphoreBackingError>
    ) =>
      Attempt.repeat(
        Attempt.run(keeper, { name, operation, limit: config.attemptLimit }, (fiber) => fiber.interruptUnsafe()),
        config.backingFailureRetryPolicy
      )

    const inspect = backing.inspect === undefined
      ? Effect.fail(new SemaphoreBackingError({ operation: "inspect", cause: "not supported by this backing" }))
      : request("inspect", () => backing.inspect!(key))

    const withPermits: DistributedSemaphore["withPermits"] = (permits, options) => (effect) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(
          acquire(permits, options, restore, take),
          (lease) => underLease(lease!, effect, restore)
        )
      )

    return {
      key,
      limit: config.limit,
      withPermits,
      withPermit: (effect) => withPermits(1)(effect),
      withPermitsIfAvailable: (permits, options) => (effect) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(
            acquire(permits, options, restore, tryTake),
            (lease) => lease === undefined ? Effect.succeedNone : Effect.asSome(underLease(lease, effect, restore))
          )
        ),
      takeLease,
      take: (permits, options) => Effect.map(takeLease(permits, options), (lease) => lease.keepAlive),
      tryTake: (permits, options) =>
        Effect.map(
          scoped(permits, options, tryTake),
          (lease) => Option.fromUndefinedOr(lease?.keepAlive)
        ),
      currentCount: request("getCount", () => backing.getCount(key, config.ttl)),
      inspect,
      changes: snapshots(inspect, backing.onChanged?.(key)),
      revoke: (identifier) =>
        Effect.tap(
          Effect.suspend(() => {
            checkIdentifier(identifier)
            return request("release", () => backing.release(key, identifier, Number.MAX_SAFE_INTEGER, { revoke: true }))
          }),
          () => Effect.sync(() => keeper.revoked(key, identifier))
        )
    }
  })

/** Asks the store, and waits if need be. Returns whether the permits were acquired. */
type Ask<E> = (contender: Contender, owner: Fiber.Fiber<unknown, unknown>) => Effect.Effect<boolean, E>

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Dies if a fiber would wait for permits that only it could give back. */
const refuseToWaitForItself = ({ config, request }: Contender, own: ReadonlyArray<Held>): void => {
  const { identifier, permits } = request
  const limit = Math.min(config.limit, ...own.map(({ contender }) => contender.config.limit))
  if (own.some((lease) => lease.identifier === identifier)) {
    refuse(
      "identifier",
      identifier,
      "another than that of a hold that this fiber works under: it would wait for itself"
    )
  }
  const others = limit - own.reduce((sum, lease) => sum + lease.permits, 0)
  if (permits > others) {
    refuse(
      "permits",
      permits,
      `at most ${others} of ${limit}, because this fiber holds the others: it would wait for itself`
    )
  }
}
