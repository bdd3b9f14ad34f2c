/** The time of this process, by which leases are counted. */
import type { Clock } from "effect"

/** By as many milliseconds may the wall clock run ahead before it counts. */
const toleranceMillis = 50

/** Milliseconds since an arbitrary start. */
export interface LocalTime {
  (): number
}

/**
 * Counts by the clock that counts more: a monotonic clock may stand still while the machine is suspended, a wall clock may be
 * set back. Whoever trusts a lease must not be the one who lost the time.
 */
export const make = (clock: Clock.Clock): LocalTime => {
  const monotonic = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const start = clock.currentTimeMillisUnsafe() - monotonic()
  let suspended = 0
  return () => {
    const millis = monotonic()
    const ahead = clock.currentTimeMillisUnsafe() - millis - start
    if (ahead > suspended + toleranceMillis) suspended = ahead
    return millis + suspended
  }
}
