/** Decides which work keeps the process alive. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"

const live = Context.get(Context.empty(), Clock.Clock)

/** The longest delay of a timer in Node. */
const longestMillis = 2 ** 31 - 1

const sleep = (millis: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const rest = millis - longestMillis
    const timer = setTimeout(() => resume(rest > 0 ? sleep(rest) : Effect.void), Math.min(millis, longestMillis))
    // In other runtimes than Node, a timer is a number.
    if (typeof timer === "object") timer.unref()
    return Effect.sync(() => clearTimeout(timer))
  })

const background: Clock.Clock = Object.assign(Object.create(live), {
  sleep: (duration: Duration.Duration) => sleep(Math.max(0, Duration.toMillis(duration)))
})

/**
 * Removes what belongs to the fiber that started the work. That includes its scheduler: the one of `runSync` would never let timers
 * and sockets run.
 */
const ofOwner = Context.omit(
  Tracer.ParentSpan,
  Scope.Scope,
  Scheduler.Scheduler,
  References.CurrentLogAnnotations,
  References.CurrentLogSpans
)

/**
 * Returns the context for work that outlives its owner, and whose pauses do not keep the process alive. A clock other than the
 * machine's, as in a test, stays as it is.
 */
export const inBackground = (context: Context.Context<never>): Context.Context<never> => {
  const own = ofOwner(context) as Context.Context<never>
  return Context.get(own, Clock.Clock) === live ? Context.add(own, Clock.Clock, background) : own
}

let waiting = 0
let alive: ReturnType<typeof setInterval> | undefined

/** Keeps the process alive, until the returned function is called. */
export const stayAwake = (): () => void => {
  alive ??= setInterval(() => {}, longestMillis)
  if (waiting++ === 0 && typeof alive === "object") alive.ref()
  let ended = false
  return () => {
    if (!ended && --waiting === 0 && typeof alive === "object") alive.unref()
    ended = true
  }
}
