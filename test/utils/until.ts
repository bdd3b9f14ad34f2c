import { Duration, Effect } from "effect"

/** Waits for a condition. Dies if it does not hold in time. Forks nothing, so that tests can count fibers with it. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>, within: Duration.Input = "10 seconds") =>
  Effect.gen(function*() {
    const deadline = performance.now() + Duration.toMillis(within)
    while (!(yield* condition)) {
      if (performance.now() > deadline) {
        return yield* Effect.die(new Error(`The condition did not hold within ${within}`))
      }
      yield* Effect.sleep("5 millis")
    }
  })
