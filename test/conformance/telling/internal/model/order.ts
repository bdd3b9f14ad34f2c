/**
 * What must hold of every history whatever the model says: written without it, so that a mistake in the model hides
 * nothing. Each check takes only what is certain from what clients saw.
 */
import type { Recorded } from "./histories.ts"
import type { Operation } from "./model.ts"
import { describeOperation } from "./random.ts"

type Ask = Recorded & { readonly operation: Extract<Operation, { readonly _tag: "tryAcquire" }> }

const isAsk = (call: Recorded): call is Ask => call.operation._tag === "tryAcquire"

const idOf = ({ operation }: Recorded) => "id" in operation ? operation.id : undefined

const isAcquired = ({ answer }: Recorded) =>
  answer === true || typeof answer === "object" && "_tag" in answer && answer._tag === "Acquired"

const tokenOf = ({ answer }: Recorded) =>
  typeof answer === "object" && "_tag" in answer && answer._tag === "Acquired" ? answer.fencingToken : undefined

const isWaiting = ({ answer }: Recorded) => typeof answer === "object" && "_tag" in answer && answer._tag === "Waiting"

/** Until when a lease or a place certainly lasts, for clocks that differ by a thousandth. */
const certainEnd = ({ at, operation: { ttl } }: Ask) => at.earliest + ttl - ttl / 1000n

/** What somebody certainly holds: from an answer on, until the next call that could change it begins. */
interface Interval {
  readonly call: Ask
  readonly from: number
  readonly to: number
}

const certainHolds = (history: ReadonlyArray<Recorded>): ReadonlyArray<Interval> =>
  history.filter(isAsk).filter(isAcquired).flatMap((call): ReadonlyArray<Interval> => {
    const next = history.find((other) => other !== call && idOf(other) === idOf(call) && other.returned > call.invoked)
    const expired = history.find((other) => other.at.latest >= certainEnd(call))
    const to = Math.min(next?.invoked ?? Number.POSITIVE_INFINITY, expired?.invoked ?? Number.POSITIVE_INFINITY)
    return to > call.returned ? [{ call, from: call.returned, to }] : []
  })

/** S1: whoever gets permits, they and all that are certainly held at that moment fit into the limit. */
export const limitViolation = (history: ReadonlyArray<Recorded>): string | undefined => {
  const holds = certainHolds(history)
  const limit = Math.max(...history.filter(isAsk).map(({ operation }) => operation.limit))
  for (const hold of holds) {
    const others = holds.filter(({ call, from, to }) =>
      idOf(call) !== idOf(hold.call) && from < hold.call.invoked && to > hold.from
    )
    const held = others.reduce((sum, { call }) => sum + call.operation.permits, hold.call.operation.permits)
    if (held > limit) {
      return `S1: ${held} permits were out at once when ${
        describeOperation(hold.call.operation)
      } had succeeded, beside ${others.map(({ call }) => describeOperation(call.operation)).join(" and ")}\n`
    }
  }
  return undefined
}

/** L1: nobody who came later takes permits that do not suffice for both, while somebody certainly waits. */
export const fifoViolation = (history: ReadonlyArray<Recorded>): string | undefined => {
  for (const waiter of history.filter(isAsk).filter(isWaiting)) {
    const ofWaiter = history.filter((call) => call !== waiter && idOf(call) === idOf(waiter))
    // The place is certain until the next call of its holder, or its expiry.
    const next = ofWaiter.find(({ returned }) => returned > waiter.invoked)
    const placeEnds = next?.invoked ?? Number.POSITIVE_INFINITY
    for (const taker of history.filter(isAsk).filter(isAcquired)) {
      const took = taker.invoked > waiter.returned && taker.returned < placeEnds && taker.at.latest < certainEnd(waiter)
      const cameLater = !history.some((call) => idOf(call) === idOf(taker) && call.invoked < waiter.returned)
      const fitBoth = taker.operation.permits + waiter.operation.permits <= taker.operation.limit
      if (took && cameLater && !fitBoth) {
        return `L1: ${describeOperation(taker.operation)}, and overtook: ${describeOperation(waiter.operation)}\n`
      }
    }
  }
  return undefined
}

/** S3: tokens rise with each acquisition, and belong to one holder. */
export const tokenViolation = (history: ReadonlyArray<Recorded>): string | undefined => {
  const acquisitions = history.filter(isAsk).filter((call) => tokenOf(call) !== undefined)
  for (const earlier of acquisitions) {
    for (const later of acquisitions) {
      const [first, second] = [tokenOf(earlier)!, tokenOf(later)!]
      const areTwo = idOf(earlier) !== idOf(later)
      if (areTwo && first === second) return `S3: the token ${first} was issued to two holders\n`
      if (areTwo && earlier.returned < later.invoked && first > second && isNew(later, history)) {
        return `S3: the token ${second} was issued after ${first}\n`
      }
    }
  }
  return undefined
}

/** Whether an acquire was certainly not a repetition: its token was never seen before it began. */
const isNew = (call: Recorded, history: ReadonlyArray<Recorded>) =>
  !history.some((other) => idOf(other) === idOf(call) && other.invoked < call.invoked)
