/**
 * A lease: which permits are held, under which name, and for how long that is certain.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import type { FencingToken } from "./Backing.ts"
import type { LockLostError, SemaphoreBackingError } from "./Errors.ts"

/**
 * The lease under which an effect runs: `withPermits` and `withPermitsIfAvailable` provide it to the effect they wrap,
 * `takeLease` returns it.
 *
 * **Example** (Guarding a write with the fencing token)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { DistributedSemaphore, Lease, MemoryBacking } from "effect-distributed-lock"
 *
 * const program = Effect.gen(function*() {
 *   const mutex = yield* DistributedSemaphore.make("ledger")
 *   yield* Effect.gen(function*() {
 *     const lease = yield* Lease
 *     yield* Effect.log(`writing with token ${Option.getOrThrow(lease.fencingToken)}`)
 *   }).pipe(mutex.withPermits(1))
 * })
 *
 * await Effect.runPromise(Effect.provide(program, MemoryBacking.layer))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class Lease extends Context.Service<Lease, {
  /** The key of the semaphore. */
  readonly key: string
  /** The name of the holder: the `identifier` option, or a random UUID. */
  readonly identifier: string
  /** How many permits are held. */
  readonly permits: number
  /**
   * The number of this acquisition: larger than that of every earlier acquisition of the key. `None` only if the backing
   * issues no tokens.
   */
  readonly fencingToken: Option.Option<FencingToken>
  /** A fiber that fails when the lease is lost. Interrupting it ends the refreshes. */
  readonly keepAlive: Fiber.Fiber<never, LockLostError | SemaphoreBackingError>
  /**
   * The time until the holder gives up if no further refresh succeeds, in whole milliseconds: zero once the lease is over.
   */
  readonly remaining: Effect.Effect<Duration.Duration>
}>()("effect-distributed-lock/Lease") {}
