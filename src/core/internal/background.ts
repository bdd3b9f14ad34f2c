/** Pauses that do not keep the process alive. */
import { Clock, Context, Duration, Effect } from "effect"

const live = Context.get(Context.empty(), Clock.Clock)

/** Node's timers can't be longer. */
const longestMillis = 2 ** 31 - 1

const sleep = (millis: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const rest = millis - longestMillis
    const timer = setTimeout(() => resume(rest > 0 ? sleep(rest) : Effect.void), Math.min(millis, longestMillis))
    // Runtimes other than Node have numbers for timers.
    if (typeof timer === "object") timer.unref()
    return Effect.sync(() => clearTimeout(timer))
  })

const background: Clock.Clock = Object.assign(Object.create(live), {
  sleep: (duration: Duration.Duration) => sleep(Math.max(0, Duration.toMillis(duration)))
})

/** Other clocks than the machine's, as in tests, stay as they are. */
export const inBackground = (context: Context.Context<never>): Context.Context<never> =>
  Context.get(context, Clock.Clock) === live ? Context.add(context, Clock.Clock, background) : context
