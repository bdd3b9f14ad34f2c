/**
 * The contract between the semaphore and a store: the one interface that `DistributedSemaphore` targets.
 *
 * **Details**
 *
 * A semaphore is one line. A contender that asks joins its end and gets a number, its *fencing token*. The contenders at the front
 * whose permits fit are *holders*, the others are *waiters*; each has a name, its identifier. An operation that frees permits
 * *grants* in the same step: it moves the border between holders and waiters, and notifies the waiters that it passes. A *hold* or a
 * *place* in the line expires `ttl` after the last `tryAcquire` or `refresh`, by the store's clock. Keys and identifiers are
 * arbitrary non-empty strings; no two different pairs may ever collide (B8). docs/guarantees.md explains labels such as B8.
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { SemaphoreBackingError } from "./Errors.ts"

export { SemaphoreBackingError } from "./Errors.ts"

/**
 * The number that a contender gets when it joins the line: its place, and the token of its hold. Within a key, later
 * acquisitions have larger numbers, and none is issued twice (B11).
 *
 * @category models
 * @since 0.1.0
 */
export type FencingToken = Brand.Branded<bigint, "effect-distributed-lock/FencingToken">

/**
 * Makes a fencing token from a number that the store has issued.
 *
 * @category constructors
 * @since 0.1.0
 */
export const FencingToken: Brand.Constructor<FencingToken> = Brand.nominal<FencingToken>()

/**
 * The answer of a store to a contender that holds the permits it asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Acquired {
  readonly _tag: "Acquired"
  readonly fencingToken: FencingToken
  /** How many permits it holds, if they are fewer than those of the request: only a refresh can find this (B5). */
  readonly permits?: number | undefined
  /** The smallest limit that a holder asked with, if it is smaller than that of the request: it is the one that counts (B2). */
  readonly limit?: number | undefined
}

/**
 * The answer of a store to a contender that waits, and has a place in line.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waiting {
  readonly _tag: "Waiting"
  /** The number of the place, and of the hold that it becomes when the store grants it. */
  readonly fencingToken: FencingToken
  /** How many waiters are ahead: 0 for the first in line. A store may count no further than a thousand. */
  readonly position: number
  /**
   * How long to wait for a notification before the place is refreshed: until the earliest expiry, of a hold or of a place ahead,
   * that could lead to its grant; at most 1 s, and never more than the `ttl`, for the first in line, and `ttl / 3` for the others.
   * Absent while notifications are off or down: the semaphore then polls.
   */
  readonly retryAfter?: Duration.Duration | undefined
  /** The smallest limit that a holder asked with, if it is smaller than that of the request: it is the one that counts (B2). */
  readonly limit?: number | undefined
}

/**
 * One of the requests of `refreshAll`, with the parameters of `refresh`.
 *
 * @category models
 * @since 0.1.0
 */
export interface RefreshRequest {
  readonly key: string
  readonly holderId: string
  readonly ttl: Duration.Duration
  readonly limit: number
  readonly permits: number
  readonly fencingToken?: FencingToken | undefined
}

/**
 * What a store knows of a holder or a waiter.
 *
 * @category models
 * @since 0.1.0
 */
export interface ContenderState {
  readonly identifier: string
  readonly permits: number
  /** The number of the place, and of the hold that it becomes. */
  readonly fencingToken: FencingToken
  /** Time left until the hold or the place expires, by the store's clock. */
  readonly remaining: Duration.Duration
  /** The process that asked last: the `owner` option of its layer, which is its host name and process id by default. */
  readonly owner?: string | undefined
  /** When it joined the line. Absent where a store can't say. */
  readonly since?: DateTime.Utc | undefined
}

/**
 * What a store knows of a key, as one consistent snapshot. It lists at most the first thousand holders and the first thousand
 * waiters.
 *
 * @category models
 * @since 0.1.0
 */
export interface SemaphoreState {
  /** The first holders, in the order of acquisition. */
  readonly holders: ReadonlyArray<ContenderState>
  /** The first waiters, first in line first. */
  readonly line: ReadonlyArray<ContenderState>
  /** How many hold, listed or not. */
  readonly holderCount: number
  /** How many wait, listed or not. */
  readonly waiterCount: number
}

/**
 * How many holders, and how many waiters, `inspect` lists at most.
 *
 * @category constants
 * @since 0.1.0
 */
export const mostListed = 1000

/**
 * The hold or the place that was revoked.
 *
 * @category models
 * @since 0.1.0
 */
export interface Revocation {
  readonly key: string
  readonly holderId: string
}

/**
 * A store that keeps semaphores.
 *
 * **Details**
 *
 * Each operation takes effect atomically, and all operations on one key are linearizable (B9). A store that can't say at the
 * moment of an acquire or a refresh where the contender stands may say it at another moment of the call. Expired holds and places
 * count for nothing in any of them, from the moment of expiry by the store's clock; an operation that finds expired ones grants
 * what they leave. Each keeps its own ttl, and a granted hold expires when its place would have (B6). Every operation may be
 * repeated after its reply was lost.
 *
 * A backing may have no more than `tryAcquire` and `refresh` with boolean answers, `release` and `getCount`. Its waiters then poll,
 * and are in no order.
 *
 * @category models
 * @since 0.1.0
 */
export interface DistributedSemaphoreBacking {
  /**
   * Makes the holder hold exactly `permits` (B1).
   *
   * **Details**
   *
   * If it holds, or waits and asks with `queue` again, for as many `permits` as before, it keeps its hold or place, extends it to
   * `ttl` from now, and answers with the same token. If it holds or waits for another number of them, it starts over: it gives up
   * its hold or place first, and then asks like anybody else.
   *
   * Holders and waiters stand in one line, in the order in which they asked. One is granted its permits when they and
   * those of everyone before it fit into the smallest limit that it or any of them asked with; a hold is never taken back for a
   * smaller limit (B2). If it can't hold, it joins the line with `queue: true`, or keeps its place there (B3). Without `queue` it
   * succeeds or changes nothing.
   *
   * A request that would take effect later than `within` after it was sent has no effect (B12): the caller has given it up, and
   * may have released already. `true` and `false` are the answers of a backing without tokens and line; every backing answers
   * `false` to a request without `queue` that can't hold.
   */
  readonly tryAcquire: (
    key: string,
    holderId: string,
    ttl: Duration.Duration,
    limit: number,
    permits: number,
    options?: { readonly queue?: boolean | undefined; readonly within?: Duration.Duration | undefined }
  ) => Effect.Effect<boolean | Acquired | Waiting, SemaphoreBackingError>

  /**
   * Gives up at most `permits` of the holder's permits *and its place in line*, and grants what they leave (B4).
   *
   * **Details**
   *
   * With a token it means that one acquisition: a late release touches no newer hold or place of the same identifier. With
   * `revoke`, somebody other than the holder gives it up, and `onRevoked` notifies all processes of it (B13).
   *
   * @returns how many permits were freed: 0 for an unknown holder and for a place.
   */
  readonly release: (
    key: string,
    holderId: string,
    permits: number,
    options?: { readonly fencingToken?: FencingToken | undefined; readonly revoke?: boolean | undefined }
  ) => Effect.Effect<number, SemaphoreBackingError>

  /**
   * Extends a hold or a place to `ttl` from now and answers which it is, or `false` if there is neither (B5). It never creates or
   * resurrects one, and leaves the number of permits alone: the answer says if fewer are held. With a token it means that one
   * acquisition.
   */
  readonly refresh: (
    key: string,
    holderId: string,
    ttl: Duration.Duration,
    limit: number,
    permits: number,
    options?: { readonly fencingToken?: FencingToken | undefined }
  ) => Effect.Effect<boolean | Acquired | Waiting, SemaphoreBackingError>

  /**
   * Refreshes many holds and places, of any keys, by as few requests to the store as possible, and answers in order (B5). If a
   * backing lacks it, each is refreshed by itself.
   */
  readonly refreshAll?:
    | ((
      requests: ReadonlyArray<RefreshRequest>
    ) => Effect.Effect<ReadonlyArray<boolean | Acquired | Waiting>, SemaphoreBackingError>)
    | undefined

  /**
   * Counts the permits that are held. A granted hold counts, whether its holder knows of it yet or not. Changes nothing (B10).
   */
  readonly getCount: (key: string, ttl: Duration.Duration) => Effect.Effect<number, SemaphoreBackingError>

  /**
   * One subscription for all waiters of a key in this process (B7). It emits `undefined` when it is established, and again whenever
   * a grant may have been missed, as after a reconnect. It emits the tokens of this process's waiters as they are granted. It
   * reconnects by itself.
   *
   * **Details**
   *
   * A backing without a line emits `undefined` when permits were released, and its waiters ask again.
   */
  readonly onPermitsReleased?: ((key: string) => Stream.Stream<void | FencingToken>) | undefined

  /**
   * Emits each hold or place, of any key, that any process revoked, so that its holder asks the store at once (B13). A missed
   * revocation does no harm: the holder's next refresh answers `false`. It reconnects by itself.
   */
  readonly onRevoked?: Stream.Stream<Revocation> | undefined

  /**
   * Lists the holders and the waiters. Changes nothing (B10).
   */
  readonly inspect?: ((key: string) => Effect.Effect<SemaphoreState, SemaphoreBackingError>) | undefined

  /**
   * Emits when what `inspect` answers may have changed. It may miss changes that the store does not notify of, because
   * `semaphore.changes` also looks once a second. It reconnects by itself.
   */
  readonly onChanged?: ((key: string) => Stream.Stream<void>) | undefined

  /**
   * Emits the keys that have holders or waiters, each once, page by page. A key that gets its first contender or loses its last one
   * meanwhile may be among them or not.
   */
  readonly keys?: Stream.Stream<string, SemaphoreBackingError> | undefined
}

/**
 * The service that `DistributedSemaphore` needs: the layer of a backing provides it.
 *
 * @category services
 * @since 0.1.0
 */
export const DistributedSemaphoreBacking: Context.Service<DistributedSemaphoreBacking, DistributedSemaphoreBacking> =
  Context.Service<DistributedSemaphoreBacking>("effect-distributed-lock/DistributedSemaphoreBacking")
