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
import { Effect, Fiber, Option, Scope } from "effect"
import type { SemaphoreState } from "./Backing.ts"
import { DistributedSemaphoreBacking } from "./Backing.ts"
import type { LockLostError } from "./Errors.ts"
import { LockNotAcquiredError, SemaphoreBackingError } from "./Errors.ts"
import * as Enclosing from "./internal/enclosing.ts"
import type { Granted } from "./internal/holder.ts"
import * as Holder from "./internal/holder.ts"
import * as Keeping from "./internal/lease.ts"
import * as Operations from "./internal/operations.ts"
import { refuse, resolveAcquisition, resolveConfig } from "./internal/options.ts"
import * as Waiting from "./internal/waiting.ts"
import { Lease } from "./Lease.ts"
import type { AcquireOptions, DistributedSemaphoreConfig } from "./Options.ts"

export type { AcquireOptions, DistributedSemaphoreConfig } from "./Options.ts"

/**
 * A semaphore with a key, backed by a store.
 *
 * **Details**
 *
 * Waiting with a limit in time is `Effect.timeout`. Interrupting an acquire at any moment leaves nothing behind. Misuse
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
   * Nothing interrupts your work when the lease is lost: that is up to whoever joins the lease's `keepAlive` fiber.
   * `withPermits` does.
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
   * Who holds and who waits. Fails with a `SemaphoreBackingError` if the backing can't tell.
   */
  readonly inspect: Effect.Effect<SemaphoreState, SemaphoreBackingError>
}

/**
 * Makes the semaphore of a key. The store is not asked yet.
 *
 * **Details**
 *
 * Semaphores of one key should agree on `limit` and `ttl`. While they differ, as during a deployment, each acquisition goes
 * by its own.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  key: string,
  options: DistributedSemaphoreConfig = {}
): Effect.fn.Return<DistributedSemaphore, never, DistributedSemaphoreBacking> {
  const backing = yield* DistributedSemaphoreBacking
  const config = yield* resolveConfig(key, options)

  /** Acquiring and registering the release are one uninterruptible step; only the asking and waiting is interruptible. */
  const acquire = Effect.fnUntraced(function*<E>(
    permits: number,
    options: AcquireOptions | undefined,
    ask: (holder: Holder.Holder) => Effect.Effect<Option.Option<Granted>, E>
  ) {
    const holder = Holder.make(backing, config, yield* resolveAcquisition(config.limit, permits, options))
    const cleanUp = Effect.suspend(() => holder.mayHold() ? Holder.giveBackBriefly(holder) : holder.abandon)
    return yield* Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const granted = yield* Effect.onError(restore(ask(holder)), () => cleanUp)
      if (Option.isNone(granted)) {
        yield* cleanUp
        return Option.none()
      }
      const lease = yield* Keeping.make(holder, granted.value)
      yield* Effect.addFinalizer(() => Keeping.close(holder, lease.keepAlive))
      return Option.some(lease)
    }))
  })

  /** Dies if the calling fiber would wait for permits that it holds itself. */
  const refuseOwnPermits = Effect.fnUntraced(function*({ acquisition }: Holder.Holder) {
    const { identifier, permits } = acquisition
    const own = yield* Enclosing.leases(backing, key)
    if (own.some((lease) => lease.identifier === identifier)) {
      return yield* refuse(
        "identifier",
        identifier,
        "another than that of a hold that this fiber works under: it would wait for itself"
      )
    }
    const held = own.reduce((sum, lease) => sum + lease.permits, 0)
    if (held + permits > config.limit) {
      return yield* refuse(
        "permits",
        permits,
        `at most the ${
          config.limit - held
        } of ${config.limit} that this fiber does not hold itself already: it would wait for itself`
      )
    }
  })

  const takeLease = (permits: number, options?: AcquireOptions) =>
    acquire(permits, options, (holder) =>
      Effect.asSome(
        holder.acquisition.acquiredExternally
          ? Effect.flatMap(holder.confirm, (answer) =>
            answer._tag === "Granted"
              ? Effect.succeed(answer)
              : new LockNotAcquiredError({ key, identifier: holder.acquisition.identifier }))
          : refuseOwnPermits(holder).pipe(
            Effect.andThen(holder.name.claim),
            Effect.andThen(Waiting.acquire(backing, holder))
          )
      )).pipe(Effect.map(Option.getOrThrow))

  const tryTakeLease = (permits: number, options?: AcquireOptions) =>
    acquire(permits, options, (holder) => {
      const unlessRefused = Effect.map((answer: Holder.Answer) =>
        answer._tag === "Granted" ? Option.some(answer) : Option.none()
      )
      return holder.acquisition.acquiredExternally
        ? unlessRefused(holder.confirm)
        : Effect.flatMap(
          holder.name.claimIfUnused,
          (claimed) => claimed ? unlessRefused(holder.ask({ queue: false })) : Effect.succeedNone
        )
    })

  const read = <A>(
    name: keyof DistributedSemaphoreBacking,
    operation: () => Effect.Effect<A, SemaphoreBackingError>
  ) =>
    Effect.suspend(() => {
      const operations = Operations.make(config)
      return Effect.ensuring(operations.run(name, operation), operations.abandon)
    }).pipe(Effect.map(({ value }) => value))

  const underLease = <A, E, R>(effect: Effect.Effect<A, E, R>, lease: Lease["Service"]) =>
    Effect.withFiber((fiber: Fiber.Fiber<unknown, unknown>) =>
      Effect.raceFirst(
        Enclosing.provide(Effect.provideService(effect, Lease, lease), backing, lease, fiber.id),
        Fiber.join(lease.keepAlive)
      )
    )

  return {
    key,
    limit: config.limit,
    // Not Effect.scoped: what the effect itself puts into a scope is for its caller's.
    withPermits: (permits, options) => (effect) =>
      Effect.scopedWith((scope) =>
        Effect.flatMap(Scope.provide(takeLease(permits, options), scope), (lease) => underLease(effect, lease))
      ),
    withPermitsIfAvailable: (permits, options) => (effect) =>
      Effect.scopedWith((scope) =>
        Effect.flatMap(
          Scope.provide(tryTakeLease(permits, options), scope),
          Option.match({
            onNone: () => Effect.succeedNone,
            onSome: (lease) => Effect.asSome(underLease(effect, lease))
          })
        )
      ),
    takeLease,
    take: (permits, options) => Effect.map(takeLease(permits, options), (lease) => lease.keepAlive),
    tryTake: (permits, options) => Effect.map(tryTakeLease(permits, options), Option.map((lease) => lease.keepAlive)),
    currentCount: read("getCount", () => backing.getCount(key, config.ttl)),
    inspect: backing.inspect === undefined
      ? Effect.fail(new SemaphoreBackingError({ operation: "inspect", cause: "not supported by this backing" }))
      : read("inspect", () => backing.inspect!(key))
  }
})
