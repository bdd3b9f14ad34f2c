/** Decides whether the model allows an answer, and in which states the key may be after it. */
import * as Duration from "effect/Duration"
import type { SemaphoreState } from "../../../core/Backing.ts"
import type { Answer, Call, Contender, Expected, Outcome, Precision, Span, State, Token } from "./model.ts"
import { distinct, expire, grant, holdersOf, stands, step, waitersOf } from "./model.ts"

/** Returns the token in an answer to `tryAcquire` or `refresh`. */
export const tokenIn = (answer: Answer): bigint | undefined =>
  typeof answer === "object" && "_tag" in answer ? answer.fencingToken : undefined

export const isAcquired = (answer: Answer): boolean =>
  answer === true || typeof answer === "object" && "_tag" in answer && answer._tag === "Acquired"

export const isWaiting = (answer: Answer): boolean =>
  typeof answer === "object" && "_tag" in answer && answer._tag === "Waiting"

const isToken = (expected: Token, actual: bigint | undefined) =>
  expected._tag === "Known" ? actual === expected.value : actual === undefined || actual > expected.value

const agrees = (expected: Expected, answer: Answer, at: Span, granularity: bigint): boolean => {
  switch (expected._tag) {
    case "Acquired":
      if (answer === true) return isToken(expected.token, undefined)
      return typeof answer === "object" && "_tag" in answer && answer._tag === "Acquired"
        && answer.permits === expected.permits && isToken(expected.token, answer.fencingToken)
    case "Waiting":
      return typeof answer === "object" && "_tag" in answer && answer._tag === "Waiting"
        && answer.position === expected.position
        && answer.fencingToken !== undefined && isToken(expected.token, answer.fencingToken)
    case "Refused":
      return answer === false
    case "Number":
      return answer === expected.permits
    case "State":
      return typeof answer === "object" && "holders" in answer
        && isSame(holdersOf(expected.state), answer.holders, at, granularity)
        && isSame(waitersOf(expected.state), answer.line, at, granularity)
  }
}

const isSame = (
  expected: ReadonlyArray<Contender>,
  actual: SemaphoreState["holders"] | SemaphoreState["line"],
  at: Span,
  granularity: bigint
) =>
  expected.length === actual.length && expected.every(({ expiry, id, permits, token }, index) => {
    const { fencingToken, identifier, permits: shown, remaining } = actual[index]!
    const left = Duration.toNanosUnsafe(remaining)
    return id === identifier && permits === shown && (token === undefined || token === fencingToken)
      // A store may show the time left as coarsely as it keeps it, or in milliseconds.
      && left <= expiry.latest - at.earliest + 1_000_000n &&
      left >= expiry.earliest - at.latest - (granularity > 1_000_000n ? granularity : 1_000_000n)
  })

const isLook = ({ operation: { _tag } }: Call) => _tag === "getCount" || _tag === "inspect"

/**
 * B6: returns the states that an operation may meet. What expired contenders leave is granted. Only a look may come before that
 * grant: a store grants at the moment of expiry or by the next operation, and a look changes nothing.
 */
export const met = (state: State, call: Call): ReadonlyArray<State> => {
  const live = expire(state, call.at)
  return distinct([...live.map(grant), ...isLook(call) ? live : []])
}

const outcomes = (state: State, call: Call, precision: Precision): ReadonlyArray<Outcome> => {
  const { answer, at, operation } = call
  const expiryIn = (ttl: bigint): Span => ({
    earliest: at.earliest + ttl - ttl * precision.drift / 1000n,
    latest: at.latest + ttl + precision.granularity
  })
  return met(state, call).map((one) => step(one, operation, tokenIn(answer), expiryIn))
}

/** Returns the states in which a key may be after a call: none if the model does not allow its answer. */
export const after = (state: State, call: Call, precision: Precision): ReadonlyArray<State> =>
  outcomes(state, call, precision).flatMap(({ expected, next }) =>
    agrees(expected, call.answer, call.at, precision.granularity) ? [next] : []
  )

/** Returns the states after the effect of an acquire or a refresh, wherever its answer says that the contender stands. */
export const afterEffect = (state: State, call: Call, precision: Precision): ReadonlyArray<State> =>
  outcomes(state, call, precision).flatMap(({ expected, next }) =>
    (expected._tag === "Acquired" || expected._tag === "Waiting") && isToken(expected.token, tokenIn(call.answer))
      ? [next]
      : []
  )

/** Returns the states in which a contender stands as the answer to its acquire or refresh says. */
export const afterLook = (state: State, call: Call, precision: Precision): ReadonlyArray<State> =>
  met(state, call).filter((one) =>
    agrees(stands(one, call.operation, tokenIn(call.answer)), call.answer, call.at, precision.granularity)
  )

/** Returns the answers that would have been right. */
export const expected = (state: State, call: Call, precision: Precision): ReadonlyArray<Expected> =>
  outcomes(state, call, precision).map((outcome) => outcome.expected)
