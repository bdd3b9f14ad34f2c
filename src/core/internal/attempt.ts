/**
 * One attempt at an operation of the store, which can be abandoned.
 *
 * A store that is frozen or out of reach may never answer, and a driver may not answer an interruption either. So every attempt
 * runs in a fiber of its own, and nobody waits for it longer than its time limit.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type { DistributedSemaphoreBacking } from "../Backing.ts"
import { SemaphoreBackingError } from "../Errors.ts"
import { stayAwake } from "./background.ts"
import type { Keeper } from "./keeper.ts"

export interface Attempt<A> {
  readonly name: keyof DistributedSemaphoreBacking
  readonly operation: () => Effect.Effect<A, SemaphoreBackingError>
  readonly limit: Duration.Duration
}

/**
 * Whether the cause is an error of the contract, or a defect. All else is a failure of the store too: an error of another class, as
 * that of a second copy of this package, and the interruption by a client that shuts down.
 */
const isKnown = (cause: Cause.Cause<unknown>): boolean =>
  Option.match(Cause.findErrorOption(cause), {
    onNone: () => Cause.hasDies(cause),
    onSome: (error) => error instanceof SemaphoreBackingError
  })

/**
 * Starts an attempt. `done` is called once: with the answer, or with a failure when the time limit has passed. The fiber may go on
 * after that, if it does not answer the interruption.
 */
export const start = <A>(
  keeper: Keeper,
  context: Context.Context<never>,
  { limit, name, operation }: Attempt<A>,
  done: (exit: Exit.Exit<A, SemaphoreBackingError>, fiber: Fiber.Fiber<A, SemaphoreBackingError>) => void
): Fiber.Fiber<A, SemaphoreBackingError> => {
  const failure = (cause: unknown) => Exit.fail(new SemaphoreBackingError({ operation: name, cause }))
  const fiber = Effect.runForkWith(context)(Effect.suspend(operation))
  const end = (exit: Exit.Exit<A, SemaphoreBackingError>) => {
    if (alarm !== undefined) keeper.cancel(alarm)
    done(Exit.isSuccess(exit) || isKnown(exit.cause) ? exit : failure(Cause.squash(exit.cause)), fiber)
  }
  const alarm = fiber.pollUnsafe() !== undefined ? undefined : keeper.setAlarm(Duration.toMillis(limit), () => {
    forget()
    fiber.interruptUnsafe()
    done(failure(new Cause.TimeoutError(`No answer within ${Duration.format(limit)}`)), fiber)
  })
  const forget = fiber.addObserver(end)
  return fiber
}

/**
 * Waits for an attempt. Unless it runs in the background, the process stays alive meanwhile. `abandoned` is called if the attempt
 * fails, or if this effect is interrupted.
 */
export const run = <A>(
  keeper: Keeper,
  attempt: Attempt<A>,
  abandoned: (fiber: Fiber.Fiber<unknown, unknown>) => void,
  background = false
): Effect.Effect<A, SemaphoreBackingError> =>
  Effect.withFiber((parent: Fiber.Fiber<unknown, unknown>) =>
    Effect.callback<A, SemaphoreBackingError>((resume) => {
      let sleepAgain: (() => void) | undefined
      const fiber = start(keeper, parent.context, attempt, (exit, fiber) => {
        sleepAgain?.()
        if (Exit.isFailure(exit)) abandoned(fiber)
        resume(exit)
      })
      if (!background && fiber.pollUnsafe() === undefined) sleepAgain = stayAwake()
      return Effect.sync(() => {
        sleepAgain?.()
        abandoned(fiber)
      })
    })
  )

/**
 * Repeats a failed attempt by a policy. `timeLeft` is called after the first failure, and says for how long the attempt may be
 * repeated. An attempt that succeeds costs nothing extra. `made` is the exit of the first attempt, if that has been made already.
 */
export const repeat = <A>(
  attempt: Effect.Effect<A, SemaphoreBackingError>,
  policy: Schedule.Schedule<unknown, SemaphoreBackingError>,
  timeLeft = () => Duration.infinity,
  made: Effect.Effect<A, SemaphoreBackingError> = attempt
): Effect.Effect<A, SemaphoreBackingError> =>
  Effect.catch(made, (error) => {
    let first = true
    const replayed = Effect.suspend(() => {
      if (!first) return attempt
      first = false
      return Effect.fail(error)
    })
    return Effect.timeoutOrElse(Effect.retry(replayed, policy), {
      duration: timeLeft(),
      orElse: () => Effect.fail(error)
    })
  })
