/** Keeps a hold that was granted, and ends it in time (S2). */
import { Duration, Effect, Exit, Fiber, Option } from "effect"
import type { SemaphoreBackingError } from "../Errors.ts"
import { LockLostError } from "../Errors.ts"
import type { Lease } from "../Lease.ts"
import type { Granted, Holder } from "./holder.ts"
import { giveBackBriefly } from "./holder.ts"
import * as Instant from "./instant.ts"

/** A suspended machine stops timers too: after waking up, the loss is noticed within this time. */
const longestSleepMillis = 1000

export const make = Effect.fnUntraced(function*(holder: Holder, granted: Granted) {
  const { config: { key, refreshInterval }, acquisition: { identifier, permits } } = holder
  let renewed = granted.sent

  const lost = (reason: LockLostError["reason"]) => {
    const cause = reason === "unreachable" ? holder.lastFailure() : undefined
    const error = new LockLostError({ key, identifier, reason, ...cause && { cause } })
    return Effect.andThen(Effect.logWarning(error.message), Effect.fail(error))
  }

  const millisLeft = Effect.suspend(() => holder.millisLeft(renewed))

  /** Counted from when the last one was sent: a slow store must not make them rarer. */
  const refreshDue = Effect.flatMap(
    Effect.suspend(() => Instant.millisSince(renewed)),
    (passed) => Effect.sleep(Math.max(0, Duration.toMillis(refreshInterval) - passed))
  )

  const refreshing: Effect.Effect<never, LockLostError | SemaphoreBackingError> = refreshDue.pipe(
    Effect.andThen(holder.refresh),
    Effect.flatMap((answer) => {
      if (answer._tag === "Refused") return lost("expired")
      renewed = answer.sent
      return Effect.void
    }),
    Effect.forever
  )

  const watching: Effect.Effect<never, LockLostError> = Effect.flatMap(
    millisLeft,
    (left) => left > 0 ? Effect.sleep(Math.min(Math.ceil(left), longestSleepMillis)) : lost("unreachable")
  ).pipe(Effect.forever)

  const keepAlive = yield* Effect.forkDetach(Effect.raceFirst(refreshing, watching), { startImmediately: true })

  const lease: Lease["Service"] = {
    key,
    identifier,
    permits,
    fencingToken: granted.fencingToken,
    keepAlive,
    remaining: Effect.map(millisLeft, (left) => Duration.millis(keepAlive.pollUnsafe() ? 0 : Math.max(0, left)))
  }
  return lease
})

/**
 * Stops the keepalive, then gives the permits back, so that no refresh trails the release. If the keepalive had failed,
 * nobody waits for that: the store is in trouble. An expired hold has nothing to give back.
 */
export const close = (holder: Holder, keepAlive: Lease["Service"]["keepAlive"]): Effect.Effect<void> =>
  Effect.andThen(
    Fiber.interrupt(keepAlive),
    Effect.flatMap(Fiber.await(keepAlive), (exit) => {
      if (Exit.hasInterrupts(exit)) return giveBackBriefly(holder)
      return hasExpired(exit) && !holder.inFlight() ? holder.abandon : Effect.asVoid(holder.giveBack)
    })
  )

const hasExpired = (exit: Exit.Exit<never, LockLostError | SemaphoreBackingError>): boolean => {
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error?._tag === "LockLostError" && error.reason === "expired"
}
