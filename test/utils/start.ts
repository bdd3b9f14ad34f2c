import { Effect } from "effect"
import { TestClock } from "effect/testing"

/** Starts an effect, and lets it run as far as it gets without time passing. */
export const start = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.tap(Effect.forkScoped(effect, { startImmediately: true }), () => TestClock.adjust(0))
