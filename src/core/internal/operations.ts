/**
 * Runs the operations of one acquisition so that each can be abandoned.
 *
 * A store that is frozen or out of reach may never answer, and a driver may not answer an interruption either. So every
 * operation runs in a fiber of its own. Whoever waits for it can leave at once, by interruption or when the time limit of
 * one attempt has passed; the operation may then still be *in flight*, and is settled before the permits are given back: an
 * acquire that lands after the release would leave a hold without a holder.
 */
import { Cause, Duration, Effect, Exit, Fiber, Option } from "effect"
import type { DistributedSemaphoreBacking } from "../Backing.ts"
import { SemaphoreBackingError } from "../Errors.ts"
import * as Instant from "./instant.ts"
import type { ResolvedConfig } from "./options.ts"

export interface Operations {
  /** Repeated by the `backingFailureRetryPolicy`, each attempt with a time limit. */
  readonly run: <A>(
    name: keyof DistributedSemaphoreBacking,
    operation: () => Effect.Effect<A, SemaphoreBackingError>
  ) => Effect.Effect<Reply<A>, SemaphoreBackingError>
  /** Whether an attempt may still take effect. */
  readonly inFlight: () => boolean
  /** Whether an attempt has failed, and so may have taken effect, or is in flight. */
  readonly uncertain: () => boolean
  /** When the last attempt that may have created or extended a hold was sent. */
  readonly lastExtension: () => Instant.Instant | undefined
  /** The failure of the last attempt, unless that succeeded. */
  readonly lastFailure: () => SemaphoreBackingError | undefined
  /** Waits until nothing is in flight. */
  readonly landed: Effect.Effect<void>
  /** Lets the attempts that are within their time limit end, and interrupts those that do not. */
  readonly settle: Effect.Effect<void>
  /** Interrupts all attempts, without waiting for them. */
  readonly abandon: Effect.Effect<void>
}

export interface Reply<A> {
  readonly value: A
  /** When the attempt that was answered began: a lease is counted from here. */
  readonly sent: Instant.Instant
}

/** With the default `refreshInterval`, two attempts fit into the rest of a lease when its refresh falls due. */
const attemptLimit = (ttl: Duration.Duration) => Duration.min(Duration.divideUnsafe(ttl, 4), Duration.seconds(5))

const failure = (operation: string, cause: unknown) => Effect.fail(new SemaphoreBackingError({ operation, cause }))

/** What creates or extends a hold. */
const extending = new Set<keyof DistributedSemaphoreBacking>(["tryAcquire", "refresh"])

/** What matters when it takes effect late. A late refresh creates nothing (B5). */
const landing = new Set<keyof DistributedSemaphoreBacking>(["tryAcquire", "release"])

type Attempts = Set<Fiber.Fiber<unknown, unknown>>

export const make = (config: Pick<ResolvedConfig, "ttl" | "backingFailureRetryPolicy">): Operations => {
  const limit = attemptLimit(config.ttl)
  const withinLimit: Attempts = new Set()
  const inFlight: Attempts = new Set()
  let failed = false
  let lastExtension: Instant.Instant | undefined
  let lastFailure: SemaphoreBackingError | undefined

  const launch = <A>(
    name: keyof DistributedSemaphoreBacking,
    operation: () => Effect.Effect<A, SemaphoreBackingError>
  ) =>
    Effect.map(Effect.forkDetach(Effect.suspend(operation), { startImmediately: true }), (fiber) => {
      withinLimit.add(fiber)
      if (landing.has(name)) inFlight.add(fiber)
      fiber.addObserver((exit) => {
        withinLimit.delete(fiber)
        inFlight.delete(fiber)
        failed ||= Exit.isFailure(exit)
      })
      return fiber
    })

  const giveUp = (fiber: Fiber.Fiber<unknown, unknown>) => {
    withinLimit.delete(fiber)
    fiber.interruptUnsafe()
  }
  const abandon = Effect.sync(() => withinLimit.forEach(giveUp))

  const attempt = <A>(
    name: keyof DistributedSemaphoreBacking,
    operation: () => Effect.Effect<A, SemaphoreBackingError>
  ) =>
    Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const sent = yield* Instant.now
      if (extending.has(name)) lastExtension = sent
      const fiber = yield* launch(name, operation)
      const exit = fiber.pollUnsafe() ??
        (yield* restore(Effect.timeoutOrElse(Fiber.await(fiber), {
          duration: limit,
          orElse: () => {
            giveUp(fiber)
            return failure(name, new Cause.TimeoutError(`No answer within ${Duration.format(limit)}`))
          }
        })))
      // Only the operation itself can have been interrupted here, as by a client that shuts down.
      if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) {
        return yield* failure(name, Cause.squash(exit.cause))
      }
      return { value: yield* exit, sent }
    })).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          lastFailure = Option.getOrUndefined(Exit.findErrorOption(exit))
        })
      )
    )

  return {
    run: (name, operation) => Effect.retry(attempt(name, operation), config.backingFailureRetryPolicy),
    inFlight: () => inFlight.size > 0,
    uncertain: () => failed || inFlight.size > 0,
    lastExtension: () => lastExtension,
    lastFailure: () => lastFailure,
    landed: Effect.asVoid(Effect.suspend(() => Fiber.awaitAll(inFlight))),
    settle: Effect.suspend(() =>
      withinLimit.size === 0
        ? Effect.void
        : Effect.andThen(Effect.timeoutOption(Fiber.awaitAll(withinLimit), limit), abandon)
    ),
    abandon
  }
}
