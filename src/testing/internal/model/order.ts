/**
 * Checks histories without the model, so that a mistake in the model hides nothing. Each check uses only what is certain from
 * what the clients saw.
 */
import { isAcquired, isWaiting, tokenIn } from "./answers.ts"
import { describeOperation } from "./descriptions.ts"
import type { Recorded } from "./histories.ts"
import type { Operation } from "./model.ts"

type Ask = Recorded & { readonly operation: Extract<Operation, { readonly _tag: "tryAcquire" }> }

const isAsk = (call: Recorded): call is Ask => call.operation._tag === "tryAcquire"

const idOf = ({ operation }: Recorded) => "id" in operation ? operation.id : undefined

const hasHold = ({ answer }: Recorded) => isAcquired(answer)

const hasPlace = ({ answer }: Recorded) => isWaiting(answer)

const tokenOf = ({ answer }: Recorded) => tokenIn(answer)

/** Returns until when a hold or a place certainly lasts, if clocks differ by at most a thousandth. */
const certainEnd = ({ at, operation }: Recorded) => {
  const ttl = "ttl" in operation ? operation.ttl : 0n
  return at.earliest + ttl - ttl / 1000n
}

/** A hold that is certain: from an answer on, until the next call that could change it begins. */
interface Interval {
  readonly call: Recorded
  readonly permits: number
  readonly from: number
  readonly to: number
}

/**
 * Returns how many permits a hold has that an answer shows. A refresh shows a hold that was granted: it has the permits of the
 * request that got the token, unless some may have been released since.
 */
const permitsOf = (call: Recorded, history: ReadonlyArray<Recorded>): number | undefined => {
  if (isAsk(call)) return call.operation.permits
  const token = tokenOf(call)
  const ask = history.filter(isAsk).find((other) => token !== undefined && tokenOf(other) === token)
  const mayBeLess = history.some((other) =>
    other.operation._tag === "release" && idOf(other) === idOf(call) && other.invoked < call.returned
    && (ask === undefined || other.returned > ask.invoked)
  )
  return mayBeLess ? undefined : ask?.operation.permits
}

const certainHolds = (history: ReadonlyArray<Recorded>): ReadonlyArray<Interval> =>
  history.filter(hasHold).flatMap((call): ReadonlyArray<Interval> => {
    const permits = permitsOf(call, history)
    const next = history.find((other) => other !== call && idOf(other) === idOf(call) && other.returned > call.invoked)
    const expired = history.find((other) => other.at.latest >= certainEnd(call))
    const to = Math.min(next?.invoked ?? Number.POSITIVE_INFINITY, expired?.invoked ?? Number.POSITIVE_INFINITY)
    return permits !== undefined && to > call.returned ? [{ call, permits, from: call.returned, to }] : []
  })

/** S1: the permits of an acquisition, and all that are certainly held at that moment, fit into the limit. */
export const limitViolation = (history: ReadonlyArray<Recorded>): string | undefined => {
  const holds = certainHolds(history)
  const limit = Math.max(...history.filter(isAsk).map(({ operation }) => operation.limit))
  for (const hold of holds) {
    const others = holds.filter(({ call, from, to }) =>
      idOf(call) !== idOf(hold.call) && from < hold.call.invoked && to > hold.from
    )
    const held = others.reduce((sum, { permits }) => sum + permits, hold.permits)
    if (held > limit) {
      return `S1: ${held} permits were out at once when ${
        describeOperation(hold.call.operation)
      } had succeeded, beside ${others.map(({ call }) => describeOperation(call.operation)).join(" and ")}\n`
    }
  }
  return undefined
}

/** L1: while a waiter certainly waits or holds, one that came later acquires only if the permits suffice for both. */
export const fifoViolation = (history: ReadonlyArray<Recorded>): string | undefined => {
  for (const waiter of history.filter(isAsk).filter(hasPlace)) {
    const ofWaiter = history.filter((call) => call !== waiter && idOf(call) === idOf(waiter))
    // The place is certain until the next call of its waiter, or its expiry.
    const next = ofWaiter.find(({ returned }) => returned > waiter.invoked)
    const placeEnds = next?.invoked ?? Number.POSITIVE_INFINITY
    for (const taker of history.filter(isAsk).filter(hasHold)) {
      const took = taker.invoked > waiter.returned && taker.returned < placeEnds && taker.at.latest < certainEnd(waiter)
      const cameLater = tokenOf(taker)! > tokenOf(waiter)!
        || !history.some((call) => idOf(call) === idOf(taker) && call.invoked < waiter.returned)
      const fitBoth = taker.operation.permits + waiter.operation.permits <= taker.operation.limit
      if (took && cameLater && !fitBoth) {
        return `L1: ${describeOperation(taker.operation)}, and overtook: ${describeOperation(waiter.operation)}\n`
      }
    }
  }
  return undefined
}

/** S3: tokens rise along the line, and each belongs to one contender. */
export const tokenViolation = (history: ReadonlyArray<Recorded>): string | undefined => {
  const numbered = history.filter(isAsk).filter((call) => tokenOf(call) !== undefined)
  for (const earlier of numbered) {
    for (const later of numbered) {
      const [first, second] = [tokenOf(earlier)!, tokenOf(later)!]
      const areTwo = idOf(earlier) !== idOf(later)
      if (areTwo && first === second) return `S3: the token ${first} was issued to two contenders\n`
      if (areTwo && earlier.returned < later.invoked && first > second && isNew(later, history)) {
        return `S3: the token ${second} was issued after ${first}\n`
      }
    }
  }
  return undefined
}

/** Whether an acquire was certainly not a repetition: its identifier was never seen before it began. */
const isNew = (call: Recorded, history: ReadonlyArray<Recorded>) =>
  !history.some((other) => idOf(other) === idOf(call) && other.invoked < call.invoked)

/** B2: a hold never becomes a place again. */
export const grantViolation = (history: ReadonlyArray<Recorded>): string | undefined => {
  for (const held of history.filter(hasHold)) {
    const waits = history.find((call) =>
      hasPlace(call) && tokenOf(call) === tokenOf(held) && call.invoked > held.returned
    )
    if (waits) return `B2: the hold with token ${tokenOf(held)} became a place again\n`
  }
  return undefined
}
