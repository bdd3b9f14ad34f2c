/**
 * One attempt at an operation of the store, which can be abandoned.
 *
 * A store that is frozen or out of reach may never answer, and a driver may not answer an interruption either. So every attempt
 * runs in a fiber of its own, and nobody waits for it longer than its time limit.
 */
import { Cause, Duration, Effect, Exit } from "effect"
import type { Context, Fiber, Schedule } from "effect"
import type { DistributedSemaphoreBacking } from "../Backing.ts"
import { SemaphoreBackingError } from "../Errors.ts"
import type { Keeper } from "./keeper.ts"

export interface Attempt<A> {
  readonly name: keyof DistributedSemaphoreBacking
  readonly operation: () => Effect.Effect<A, SemaphoreBackingError>
  readonly limit: Duration.Duration
  /** Called once: with the answer, or with a failure when the time limit has passed. */
  readonly done: (exit: Exit.Exit<A, SemaphoreBackingError>) => void
}

/** Starts an attempt. Its fiber may go on after its time limit, if it does not answer the interruption. */
export const launch = <A>(
  keeper: Keeper,
  context: Context.Context<never>,
  { done, limit, name, operation }: Attempt<A>
): Fiber.Fiber<A, SemaphoreBackingError> => {
  const failure = (cause: unknown) => Exit.fail(new SemaphoreBackingError({ operation: name, cause }))
  const end = (exit: Exit.Exit<A, SemaphoreBackingError>) =>
    // Only the operation itself can have been interrupted here, as by a client that shuts down.
    done(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? failure(Cause.squash(exit.cause)) : exit)

  const fiber = Effect.runForkWith(context)(Effect.suspend(operation))
  const exit = fiber.pollUnsafe()
  if (exit !== undefined) {
    end(exit)
    return fiber
  }
  const forget = fiber.addObserver((exit) => {
    keeper.cancel(alarm)
    end(exit)
  })
  const alarm = keeper.setAlarm(Duration.toMillis(limit), () => {
    forget()
    fiber.interruptUnsafe()
    done(failure(new Cause.TimeoutError(`No answer within ${Duration.format(limit)}`)))
  })
  return fiber
}

/** An attempt to wait for. `abandoned` is called if nobody waits for its answer any more, or if it failed. */
export const run = <A>(
  keeper: Keeper,
  attempt: Omit<Attempt<A>, "done">,
  abandoned: (fiber: Fiber.Fiber<unknown, unknown> | undefined) => void
): Effect.Effect<A, SemaphoreBackingError> =>
  Effect.withFiber((parent: Fiber.Fiber<unknown, unknown>) =>
    Effect.callback<A, SemaphoreBackingError>((resume) => {
      let fiber: Fiber.Fiber<unknown, unknown> | undefined
      fiber = launch(keeper, parent.context, {
        ...attempt,
        done: (exit) => {
          if (Exit.isFailure(exit)) abandoned(fiber)
          resume(exit)
        }
      })
      return Effect.sync(() => abandoned(fiber))
    })
  )

/** Repeats an attempt that fails, as a policy says, within a time. Without a failure neither costs anything. */
export const repeat = <A>(
  attempt: Effect.Effect<A, SemaphoreBackingError>,
  policy: Schedule.Schedule<unknown, SemaphoreBackingError>,
  within = Duration.infinity
): Effect.Effect<A, SemaphoreBackingError> =>
  Effect.catch(attempt, (error) => {
    let first = true
    const replayed = Effect.suspend(() => {
      if (!first) return attempt
      first = false
      return Effect.fail(error)
    })
    return Effect.timeoutOrElse(Effect.retry(replayed, policy), { duration: within, orElse: () => Effect.fail(error) })
  })
