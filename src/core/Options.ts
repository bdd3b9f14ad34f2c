/**
 * What a semaphore and an acquisition can be told.
 *
 * @since 0.1.0
 */
import type { Duration, Schedule } from "effect"
import type { SemaphoreBackingError } from "./Errors.ts"

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
   * When to repeat an operation that the store failed or did not answer; its input is the failure. When it ends, the `SemaphoreBackingError` is the
   * caller's. A holder stops at the end of its lease, whatever the policy says. By default: from 100 milliseconds on,
   * doubling up to 5 seconds, ±20 %, for as long as `ttl`.
   */
  readonly backingFailureRetryPolicy?: Schedule.Schedule<unknown, SemaphoreBackingError> | undefined
}

/**
 * @category options
 * @since 0.1.0
 */
export interface AcquireOptions {
  /**
   * The name of the holder, a random UUID by default. Processes that use the same name at the same time are the same holder.
   * In one process, an acquisition under a name in use waits until the earlier one has been given back; `tryTake` answers
   * `None`.
   */
  readonly identifier?: string | undefined
  /**
   * The permits are held already under this `identifier`, by an earlier run or another process: verify that, and go on as
   * their holder. If they are not held (any more), `tryTake` answers `None` and `take` fails with `LockNotAcquiredError`. If
   * an acquisition of this process holds them, they are taken over from it: it no longer gives them back.
   */
  readonly acquiredExternally?: boolean | undefined
}
