/**
 * Runs the operations of one acquisition so that each can be abandoned.
 *
 * A store that is frozen or out of reach may never answer, and a driver may not answer an interruption either. So every
 * operation runs in a fiber of its own. Whoever waits for it can leave at once, by interruption or when the time limit of
 * one attempt has passed; the operation may then still be *in flight*, and is settled before the permits are given back: an
 * acquire that lands after the release would leave a hold without a holder.
 */
import { Cause, Duration, Effect, Exit, Fiber } from "effect"
import { SemaphoreBackingError } from "../Errors.ts"
import * as Instant from "./instant.ts"
import type { ResolvedConfig } from "./options.ts"

export interface Operations {
  /** Repeated by the `backingFailureRetryPolicy`, each attempt with a time limit. */
  readonly run: <A>(
    name: string,
    operation: () => Effect.Effect<A, SemaphoreBackingError>
  ) => Effect.Effect<Reply<A>, SemaphoreBackingError>
  /** Whether an attempt has not ended yet. */
  readonly inFlight: () => boolean
  /** Whether an attempt has failed, or has not ended yet: it may have taken effect, or still do so. */
  readonly uncertain: () => boolean
  /** Lets what is in flight end, at most for the time limit of one attempt, and then interrupts it. */
  readonly settle: Effect.Effect<void>
  /** Interrupts what is in flight, without waiting for it. */
  readonly abandon: Effect.Effect<void>
  /** Waits until nothing is in flight. */
  readonly landed: Effect.Effect<void>
}

export interface Reply<A> {
  readonly value: A
  /** When the attempt that was answered began: a lease is counted from here. */
  readonly sent: Instant.Instant
}

/** With the default `refreshInterval`, two attempts fit into the rest of a lease when its refresh falls due. */
const attemptLimit = (ttl: Duration.Duration) => Duration.min(Duration.divideUnsafe(ttl, 4), Duration.seconds(5))

const failure = (operation: string, cause: unknown) => Effect.fail(new SemaphoreBackingError({ operation, cause }))

export const make = (config: Pick<ResolvedConfig, "ttl" | "backingFailureRetryPolicy">): Operations => {
  const limit = attemptLimit(config.ttl)
  const flying = new Set<Fiber.Fiber<unknown, unknown>>()
  let failed = false

  const launch = <A>(operation: () => Effect.Effect<A, SemaphoreBackingError>) =>
    Effect.map(Effect.forkDetach(Effect.suspend(operation), { startImmediately: true }), (fiber) => {
      flying.add(fiber)
      fiber.addObserver((exit) => {
        flying.delete(fiber)
        failed ||= Exit.isFailure(exit)
      })
      return fiber
    })

  const attempt = <A>(name: string, operation: () => Effect.Effect<A, SemaphoreBackingError>) =>
    Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const sent = yield* Instant.now
      const fiber = yield* launch(operation)
      const exit = fiber.pollUnsafe() ??
        (yield* restore(Effect.timeoutOrElse(Fiber.await(fiber), {
          duration: limit,
          orElse: () => {
            fiber.interruptUnsafe()
            return failure(name, new Cause.TimeoutError(`No answer within ${Duration.format(limit)}`))
          }
        })))
      // Only the operation itself can have been interrupted here, as by a client that shuts down.
      if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) {
        return yield* failure(name, Cause.squash(exit.cause))
      }
      return { value: yield* exit, sent }
    }))

  const abandon = Effect.sync(() => flying.forEach((fiber) => fiber.interruptUnsafe()))
  const landed = Effect.suspend(() => Fiber.awaitAll(flying)).pipe(Effect.asVoid)

  return {
    run: (name, operation) => Effect.retry(attempt(name, operation), config.backingFailureRetryPolicy),
    inFlight: () => flying.size > 0,
    uncertain: () => failed || flying.size > 0,
    settle: Effect.suspend(() =>
      flying.size === 0 ? Effect.void : Effect.andThen(Effect.timeoutOption(landed, limit), abandon)
    ),
    abandon,
    landed
  }
}
