import { Duration, Effect } from "effect"

/**
 * Waits for a condition, which it checks less often the longer it has waited. Dies if it does not hold in time. Forks nothing, so that
 * tests can count fibers with it.
 */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>, within: Duration.Input = "10 seconds") =>
  Effect.gen(function*() {
    const began = performance.now()
    while (!(yield* condition)) {
      const waited = performance.now() - began
      if (waited > Duration.toMillis(within)) {
        return yield* Effect.die(new Error(`The condition did not hold within ${within}`))
      }
      yield* Effect.sleep(Math.min(100, Math.max(5, waited / 20)))
    }
  })
