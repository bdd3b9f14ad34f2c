/**
 * Makes acquisitions observable: by metrics always, by a span if there is a tracer, by debug logs if they are on. It checks first
 * whether anybody listens, because spans and annotations cost more than an acquisition from `MemoryBacking`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { LockLostError, SemaphoreBackingError } from "../Errors.ts"
import { LockNotAcquiredError } from "../Errors.ts"
import type { Answer, Contender, Loss } from "./contender.ts"
import type { LossReason } from "./metrics.ts"

type AnyFiber = Fiber.Fiber<unknown, unknown>

export const annotations = ({ config: { key }, request: { identifier, permits } }: Contender) => ({
  key,
  identifier,
  permits
})

/** A fiber without a tracer of its own uses Effect's default one, whose spans nobody sees. */
const isTraced = ({ cache }: AnyFiber): boolean => cache.tracer !== undefined && cache.tracerEnabled

const isDebugged = ({ cache: { minimumLogLevel: level } }: AnyFiber): boolean =>
  level === "Debug" || level === "Trace" || level === "All"

/** A logger that throws must not cost a hold. */
const debug = (contender: Contender, message: string, more?: Record<string, unknown>): Effect.Effect<void> =>
  Effect.ignoreCause(Effect.annotateLogs(Effect.logDebug(message), { ...annotations(contender), ...more }))

const waitedMillis = ({ joined, keeper }: Contender): number => joined === undefined ? 0 : keeper.now() - joined

/** Runs an acquisition in a span. The spans of its requests to the store are children of it. */
export const take = <E>(
  contender: Contender,
  fiber: AnyFiber,
  asked: Effect.Effect<boolean, E>
): Effect.Effect<boolean, E> => {
  if (!isTraced(fiber)) return asked
  return Effect.useSpan(
    "DistributedSemaphore.take",
    { attributes: annotations(contender) },
    (span) =>
      Effect.onExit(Effect.withParentSpan(asked, span, { captureStackTrace: false }), (exit) =>
        Effect.sync(() => {
          span.attribute("acquired", Exit.isSuccess(exit) && exit.value)
          span.attribute("waited", waitedMillis(contender))
          if (contender.position !== undefined) span.attribute("position", contender.position)
        }))
  )
}

/** Runs a release in a span. A tracer that throws must not keep it from being run. */
export const release = (contender: Contender, fiber: AnyFiber, released: Effect.Effect<void>): Effect.Effect<void> => {
  const logged = isDebugged(fiber)
    ? Effect.flatMap(released, () => contender.mayHave ? Effect.void : debug(contender, "Released permits"))
    : released
  if (!isTraced(fiber)) return logged
  let began = false
  const spanned = Effect.useSpan("DistributedSemaphore.release", { attributes: annotations(contender) }, () => {
    began = true
    return logged
  })
  return Effect.ensuring(spanned, Effect.suspend(() => began ? Effect.void : logged))
}

/** Counts a waiter for as long as it waits. */
export const wait = <A, E>(
  contender: Contender,
  answer: Answer,
  turn: Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  let counted = false
  const { metrics } = contender
  const waiting = Effect.withFiber((fiber: AnyFiber) => {
    counted = true
    metrics.waits()
    contender.joined ??= contender.keeper.now()
    const position = typeof answer === "object" && answer._tag === "Waiting" ? answer.position : undefined
    contender.position ??= position
    return isDebugged(fiber) ? Effect.andThen(debug(contender, "Waits for permits", { position }), turn) : turn
  })
  return Effect.ensuring(waiting, Effect.sync(() => counted && metrics.waited()))
}

/** Counts and logs an acquisition that holds. If its hold is lost already, counts that too. */
export const acquired = <A>(contender: Contender, fiber: AnyFiber, then: Effect.Effect<A>): Effect.Effect<A> => {
  const { began, checked, loss, metrics, request, token } = contender
  const millis = checked - began
  metrics.acquired(request.permits, millis)
  contender.isCounted = true
  if (loss !== undefined) ended(contender, loss)
  if (!isDebugged(fiber)) return then
  const waited = waitedMillis(contender)
  return Effect.andThen(debug(contender, "Acquired permits", { fencingToken: token, millis, waited }), then)
}

/** Counts an acquisition that was refused. */
export const refused = ({ metrics, request: { permits } }: Contender): void => metrics.refused(permits)

/** Returns whether an acquisition that failed was refused, by the store or by its policy. */
export const isRefusal = (cause: Cause.Cause<unknown>): boolean =>
  Option.getOrUndefined(Cause.findErrorOption(cause)) instanceof LockNotAcquiredError

/** Counts a hold that has ended: as released if its holder ended it, otherwise as lost. */
export const ended = ({ isCounted, metrics, request: { permits } }: Contender, loss: Loss): void => {
  if (!isCounted) return
  if (Exit.hasInterrupts(loss)) metrics.released(permits)
  else metrics.lost(permits, reasonOf(loss))
}

const reasonOf = (loss: Loss): LossReason => {
  const error = Option.getOrUndefined(Exit.findErrorOption(loss))
  return error?._tag === "LockLostError" ? error.reason : "failed"
}

/** Logs what the keeper notices, as the fiber that acquired would. */
const log = ({ context }: Contender, message: Effect.Effect<void>): void => {
  Effect.runForkWith(context)(message)
}

/** Warns of a lost hold. */
export const lost = (contender: Contender, { message, reason }: LockLostError): void =>
  log(contender, Effect.annotateLogs(Effect.logWarning(message), { ...annotations(contender), reason }))

/** Counts and logs a refresh that the store failed or did not answer. */
export const refreshFailed = (contender: Contender, failure: SemaphoreBackingError): void => {
  contender.metrics.refreshFailed()
  log(
    contender,
    Effect.withFiber((fiber: AnyFiber) => isDebugged(fiber) ? debug(contender, failure.message) : Effect.void)
  )
}
