/** Counts the fibers that an effect leaves behind. */
import { Effect, Metric } from "effect"

/** Runs an effect, and counts the fibers that run in it, including its own. */
export const counted = <A, E, R>(use: (running: () => number) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    let running = 0
    return Effect.provideService(Effect.suspend(() => use(() => running)), Metric.FiberRuntimeMetrics, {
      recordFiberStart: () => void running++,
      recordFiberEnd: () => void running--
    })
  })

/** Returns the count once it has not changed for more than a second, which is how long an idle keeper sleeps. */
export const steady = (running: () => number) =>
  Effect.gen(function*() {
    let count = running()
    let since = performance.now()
    while (performance.now() - since < 1200) {
      yield* Effect.sleep("5 millis")
      if (running() !== count) [count, since] = [running(), performance.now()]
    }
    return count
  })
