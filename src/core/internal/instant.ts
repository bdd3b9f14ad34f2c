/** Moments of the local clocks, and the time that has passed since. */
import { Clock, Effect } from "effect"

export interface Instant {
  readonly monotonicNanos: bigint
  readonly wallMillis: number
}

export const now: Effect.Effect<Instant> = Clock.clockWith((clock) =>
  Effect.succeed({
    monotonicNanos: clock.monotonicTimeNanosUnsafe(),
    wallMillis: clock.currentTimeMillisUnsafe()
  })
)

/**
 * Milliseconds since `start`, by the clock that counts more of them: a monotonic clock may stand still while the machine
 * is suspended, a wall clock may be set back. Whoever trusts a lease must not be the one who lost the time.
 */
export const millisSince = (start: Instant): Effect.Effect<number> =>
  Effect.map(
    now,
    (end) => Math.max(Number(end.monotonicNanos - start.monotonicNanos) / 1e6, end.wallMillis - start.wallMillis)
  )
