/**
 * What a semaphore and an acquisition can be told.
 *
 * @since 0.1.0
 */
import type { Duration, Schedule } from "effect"

/**
 * @category options
 * @since 0.1.0
 */
export interface DistributedSemaphoreConfig {
  /** How many permits there are in all: a positive integer, 1 by default (a mutex). */
  readonly limit?: number | undefined
  /**
   * How long a lease lasts from the last acquire or refresh, 30 seconds by default: after a crash its permits are free
   * again when this has passed.
   */
  readonly ttl?: Duration.Input | undefined
  /** How often a hold is refreshed: below `ttl`, a third of it by default. */
  readonly refreshInterval?: Duration.Input | undefined
  /**
   * How often the first in line asks again where the backing does not notify, 100 milliseconds by default. Whoever stands
   * further back, as far as the backing tells, asks less often.
   */
  readonly acquireRetryInterval?: Duration.Input | undefined
  /** When to ask again, instead of `acquireRetryInterval`. When it ends, `take` fails with `LockNotAcquiredError`. */
  readonly acquireRetryPolicy?: Schedule.Schedule<unknown> | undefined
  /**
   * When to repeat an operation that the store failed or did not answer. When it ends, the `SemaphoreBackingError` is the
   * caller's. A holder stops at the end of its lease, whatever the policy says. By default: from 100 milliseconds on,
   * doubling up to 5 seconds, ±20 %, for as long as `ttl`.
   */
  readonly backingFailureRetryPolicy?: Schedule.Schedule<unknown> | undefined
}

/**
 * @category options
 * @since 0.1.0
 */
export interface AcquireOptions {
  /**
   * The name of the holder, a random UUID by default. Whoever uses the same name at the same time is the same holder; whoever
   * uses it again waits until its earlier hold has been given back.
   */
  readonly identifier?: string | undefined
  /**
   * The permits are held already under this `identifier`, by an earlier run or another process: verify that, and go on as
   * their holder. If they are not held (any more), `tryTake` answers `None` and `take` fails with `LockNotAcquiredError`.
   */
  readonly acquiredExternally?: boolean | undefined
}
