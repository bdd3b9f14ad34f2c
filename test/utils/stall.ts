/** Tells what the library does late from what the machine does late: a process that it does not run interrupts nothing. */
import { Effect } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"

/** Measures until the scope closes. The inner effect returns for how many milliseconds the event loop has stood still at most. */
export const longestStall = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const delays = monitorEventLoopDelay()
      delays.enable()
      return delays
    }),
    (delays) => Effect.sync(() => delays.disable())
  ),
  (delays) => Effect.sync(() => delays.max / 1e6)
)
