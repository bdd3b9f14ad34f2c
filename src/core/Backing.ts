/**
 * The contract between the semaphore and a store: the one interface that `DistributedSemaphore` targets.
 *
 * **Details**
 *
 * A *holder* is one acquisition, named by its identifier; its *hold* lasts until its lease expires, `ttl` after the last
 * acquire or refresh, by the store's clock. A *waiter* has a place in the *line* of its key, which expires in the same way.
 * Keys and identifiers are arbitrary non-empty strings; no two different pairs may ever collide (B8).
 *
 * @since 0.1.0
 */
import { Brand, Context } from "effect"
import type { Duration, Effect, Stream } from "effect"
import type { SemaphoreBackingError } from "./Errors.ts"

export { SemaphoreBackingError } from "./Errors.ts"

/**
 * The number of an acquisition. Within a key, later acquisitions have larger numbers, and none is issued twice (B11).
 *
 * @category models
 * @since 0.1.0
 */
export type FencingToken = Brand.Branded<bigint, "effect-distributed-lock/FencingToken">

/**
 * @category constructors
 * @since 0.1.0
 */
export const FencingToken: Brand.Constructor<FencingToken> = Brand.nominal<FencingToken>()

/**
 * The holder holds the permits it asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Acquired {
  readonly _tag: "Acquired"
  readonly fencingToken: FencingToken
}

/**
 * The holder has a place in line.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waiting {
  readonly _tag: "Waiting"
  /** How many waiters are ahead: 0 for the first in line. */
  readonly position: number
  /**
   * When to ask again if nothing is heard: at the earliest expiry, of a hold or of a place ahead, that could free the
   * way; at most 1 s for the first in line and `ttl / 3` for the others. Absent while notifications are off or down: the
   * semaphore then polls.
   */
  readonly retryAfter?: Duration.Duration | undefined
}

/**
 * What a store knows of a key.
 *
 * @category models
 * @since 0.1.0
 */
export interface SemaphoreState {
  /** The holds, in the order of acquisition. */
  readonly holders: ReadonlyArray<{
    readonly identifier: string
    readonly permits: number
    readonly fencingToken: FencingToken
    /** Time left until the lease expires, by the store's clock. */
    readonly remaining: Duration.Duration
  }>
  /** The waiters, first in line first. */
  readonly line: ReadonlyArray<{
    readonly identifier: string
    readonly permits: number
    /** Time left until the place expires, by the store's clock. */
    readonly remaining: Duration.Duration
  }>
}

/**
 * A store that keeps semaphores.
 *
 * **Details**
 *
 * Each operation takes effect atomically, and all operations on one key are linearizable (B9). Expired holds and places
 * count for nothing in any of them, from the moment of expiry by the store's clock, and each hold keeps its own ttl (B6).
 * Every operation may be repeated after its reply was lost.
 *
 * A backing may stop at the boolean answers of `tryAcquire`, `release`, `refresh` and `getCount`: it gets polling, and no
 * order among its waiters.
 *
 * @category models
 * @since 0.1.0
 */
export interface DistributedSemaphoreBacking {
  /**
   * Makes the holder hold exactly `permits`, or changes nothing about what it holds (B1). Called again by a holder that
   * holds that number it succeeds, extends the lease and answers with the same token.
   *
   * **Details**
   *
   * Whoever asks is thought of as standing at the end of the line, or at its place if it has one. It succeeds exactly when
   * its permits and those of everyone ahead of it fit into what is free (B2); what it holds itself counts as free. If it
   * can't succeed, it joins the line with `queue: true`, or keeps its place there, for `ttl` from now (B3); without `queue`
   * nothing changes.
   *
   * `true` and `false` are the answers of a backing without tokens and line; `false` is also the answer without `queue`.
   */
  readonly tryAcquire: (
    key: string,
    holderId: string,
    ttl: Duration.Duration,
    limit: number,
    permits: number,
    options?: { readonly queue?: boolean | undefined }
  ) => Effect.Effect<boolean | Acquired | Waiting, SemaphoreBackingError>

  /**
   * Gives up at most `permits` of the holder's permits, and its place in line; wakes whoever can go now (B4).
   *
   * @returns how many permits were freed: 0 for an unknown holder.
   */
  readonly release: (key: string, holderId: string, permits: number) => Effect.Effect<number, SemaphoreBackingError>

  /**
   * Extends the lease to `ttl` from now, or answers `false` if the hold has expired or is gone (B5). It never creates,
   * never resurrects, and leaves the number of permits alone.
   */
  readonly refresh: (
    key: string,
    holderId: string,
    ttl: Duration.Duration,
    limit: number,
    permits: number
  ) => Effect.Effect<boolean | Acquired, SemaphoreBackingError>

  /**
   * The number of permits held. Changes nothing (B10).
   */
  readonly getCount: (key: string, ttl: Duration.Duration) => Effect.Effect<number, SemaphoreBackingError>

  /**
   * Emits once when the subscription stands, again after every reconnect, and whenever that holder may be able to go; if no
   * holder is named, whenever anyone may who waits in this process (B7). It reconnects by itself.
   *
   * **Gotchas**
   *
   * Whoever waits is told where it asked last, with `queue`. So ask again after the first emission.
   */
  readonly onPermitsReleased?: ((key: string, holderId?: string) => Stream.Stream<void>) | undefined

  /**
   * Who holds and who waits. Changes nothing (B10).
   */
  readonly inspect?: ((key: string) => Effect.Effect<SemaphoreState, SemaphoreBackingError>) | undefined
}

/**
 * @category services
 * @since 0.1.0
 */
export const DistributedSemaphoreBacking: Context.Service<DistributedSemaphoreBacking, DistributedSemaphoreBacking> =
  Context.Service<DistributedSemaphoreBacking>("effect-distributed-lock/DistributedSemaphoreBacking")
