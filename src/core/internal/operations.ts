/**
 * Runs the operations of one acquisition so that each can be abandoned.
 *
 * A store that is frozen or out of reach may never answer, and a driver may not answer an interruption either. So every
 * operation runs in a fiber of its own. Whoever waits for it can leave at once, by interruption or when the time limit of
 * one attempt has passed; the operation then stays *in flight*, and must be settled before the permits are given back: an
 * acquire that lands after the release would leave a hold without a holder.
 */
import { Cause, Duration, Effect, Fiber } from "effect"
import { SemaphoreBackingError } from "../Errors.ts"
import * as Instant from "./instant.ts"
import type { ResolvedConfig } from "./options.ts"

export interface Operations {
  /** Repeated by the `backingFailureRetryPolicy`, each attempt with a time limit. */
  readonly run: <A>(
    name: string,
    operation: () => Effect.Effect<A, SemaphoreBackingError>
  ) => Effect.Effect<Reply<A>, SemaphoreBackingError>
  /** Whether an attempt that was abandoned may still take effect. */
  readonly inFlight: () => boolean
  /** Waits for what is in flight, at most for the time limit of one attempt; what has not ended by then never goes on. */
  readonly settle: Effect.Effect<void>
}

export interface Reply<A> {
  readonly value: A
  /** When the attempt that was answered began: a lease is counted from here. */
  readonly sent: Instant.Instant
}

/** Two attempts fit into what is left of a lease when its refresh falls due, if `refreshInterval` is the default. */
const attemptLimit = (ttl: Duration.Duration) => Duration.min(Duration.divideUnsafe(ttl, 3), Duration.seconds(5))

export const make = (config: Pick<ResolvedConfig, "ttl" | "backingFailureRetryPolicy">): Operations => {
  const limit = attemptLimit(config.ttl)
  const flying = new Set<Fiber.Fiber<unknown, unknown>>()

  const launch = <A>(operation: () => Effect.Effect<A, SemaphoreBackingError>) =>
    Effect.map(Effect.forkDetach(Effect.suspend(operation), { startImmediately: true }), (fiber) => {
      flying.add(fiber)
      fiber.addObserver(() => flying.delete(fiber))
      return fiber
    })

  const attempt = <A>(name: string, operation: () => Effect.Effect<A, SemaphoreBackingError>) =>
    Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const sent = yield* Instant.now
      const fiber = yield* launch(operation)
      const value = yield* fiber.pollUnsafe() ??
        restore(Effect.timeoutOrElse(Fiber.join(fiber), {
          duration: limit,
          orElse: () => Effect.fail(new SemaphoreBackingError({ operation: name, cause: noAnswer(limit) }))
        }))
      return { value, sent }
    }))

  return {
    run: (name, operation) => Effect.retry(attempt(name, operation), config.backingFailureRetryPolicy),
    inFlight: () => flying.size > 0,
    settle: Effect.suspend(() =>
      flying.size === 0 ? Effect.void : Effect.andThen(
        Effect.timeoutOption(Fiber.awaitAll(flying), limit),
        Effect.sync(() => flying.forEach((fiber) => fiber.interruptUnsafe()))
      )
    )
  }
}

const noAnswer = (limit: Duration.Duration) => new Cause.TimeoutError(`No answer within ${Duration.format(limit)}`)

/**
 * Waits for an effect at most half a second, and leaves it to end in the background: what cleans up must not keep its
 * caller on a dead store.
 */
export const briefly = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  Effect.flatMap(
    Effect.forkDetach(effect, { startImmediately: true }),
    (fiber) => fiber.pollUnsafe() ? Effect.void : Effect.asVoid(Effect.timeoutOption(Fiber.await(fiber), "500 millis"))
  )
