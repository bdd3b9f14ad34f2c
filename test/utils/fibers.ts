/** Counts the fibers that an effect leaves behind. */
import { Effect, Metric } from "effect"

/** Runs an effect with a count of the fibers that it and its descendants have running, itself included. */
export const counted = <A, E, R>(use: (running: () => number) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    let running = 0
    return Effect.provideService(Effect.suspend(() => use(() => running)), Metric.FiberRuntimeMetrics, {
      recordFiberStart: () => void running++,
      recordFiberEnd: () => void running--
    })
  })

/** The count once it has not changed for longer than a keeper with nothing to keep sleeps, which is a second. */
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
