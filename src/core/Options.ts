/**
 * The options of a semaphore and of an acquisition.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Schedule from "effect/Schedule"
import type { SemaphoreBackingError } from "./Errors.ts"

/**
 * The options of `DistributedSemaphore.make`. Processes that share a key should give the same limit: the smallest counts.
 *
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
   * How often the first in line asks again while the backing sends no notifications: every 100 milliseconds by default. Waiters
   * further back ask less often, if the backing keeps a line.
   */
  readonly acquireRetryInterval?: Duration.Input | undefined
  /**
   * When to ask again, instead of `acquireRetryInterval`, also while the backing notifies. When it ends, `take` fails with
   * `LockNotAcquiredError`.
   */
  readonly acquireRetryPolicy?: Schedule.Schedule<unknown> | undefined
  /**
   * When to repeat an operation that the store failed or did not answer; the input of the schedule is the failure. When the
   * schedule ends, the caller gets the `SemaphoreBackingError`. A holder stops at the end of its lease, whatever the policy says.
   * The default pauses for 100 milliseconds first, doubles the pause up to 5 seconds (±20 %), and goes on for one `ttl`.
   */
  readonly backingFailureRetryPolicy?: Schedule.Schedule<unknown, SemaphoreBackingError> | undefined
  /**
   * Whether metrics have the attribute `key`: `false` by default, because with it every key has series of its own. Turn it on if
   * there are few keys. The `Metric.CurrentMetricAttributes` of the fiber that acquires are added in any case.
   */
  readonly metricsByKey?: boolean | undefined
}

/**
 * The options of one acquisition.
 *
 * @category options
 * @since 0.1.0
 */
export interface AcquireOptions {
  /**
   * The name of the holder, a random UUID by default. Processes that use the same one at the same time are the same holder.
   * Through one layer, an acquisition under an identifier in use waits until the earlier one has been given back; `tryTake` answers
   * `None`.
   */
  readonly identifier?: string | undefined
  /**
   * Set this if an earlier run or another process holds the permits already, under this `identifier`: the acquisition verifies
   * that they are held, and goes on as their holder. If they are not held any more, or fewer than it asks for, `tryTake` answers
   * `None` and `take` fails with `LockNotAcquiredError`. If another acquisition of this process holds them, this one takes them
   * over, and the other no longer gives them back.
   */
  readonly acquiredExternally?: boolean | undefined
}
