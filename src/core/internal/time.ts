/** The time of this process, by which leases are counted. */
import type * as Clock from "effect/Clock"

/** Differences between the clocks up to this many milliseconds do not count. */
const toleranceMillis = 50

/** Milliseconds since an arbitrary start. */
export interface LocalTime {
  (): number
  /** How much of this time the timers have missed, because they stood still. */
  readonly missed: number
}

/**
 * Counts by the clock that has advanced more: a monotonic clock may stand still while the machine is suspended, and a wall clock may
 * be set back. A holder that missed time would trust its lease for too long.
 */
export const make = (clock: Clock.Clock): LocalTime => {
  const monotonic = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  /** The smallest lead of the wall clock over the monotonic one since it last jumped ahead. */
  let ahead = Number.POSITIVE_INFINITY
  const time = Object.assign(() => {
    const millis = monotonic()
    const now = clock.currentTimeMillisUnsafe() - millis
    if (now > ahead + toleranceMillis) time.missed += now - ahead
    if (now < ahead || now > ahead + toleranceMillis) ahead = now
    return millis + time.missed
  }, { missed: 0 })
  return time
}
