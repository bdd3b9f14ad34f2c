/**
 * The contract as a model: what a semaphore of one key answers, and what is so afterwards. Written to be read; each rule is
 * where it is named.
 *
 * Nobody but the store knows its clock. What a caller knows is a span: an operation took effect between its call and its
 * answer. So a lease ends within a span too, and while that lasts, the model allows both.
 */
import { Duration } from "effect"
import type { Acquired, FencingToken, SemaphoreState, Waiting } from "../../../../../src/core/Backing.ts"

/** Nanoseconds of the monotonic clock. */
export interface Span {
  readonly earliest: bigint
  readonly latest: bigint
}

export interface Hold {
  readonly id: string
  readonly permits: number
  /** Absent if the backing has no tokens. */
  readonly token: bigint | undefined
  readonly expiry: Span
}

export interface Place {
  readonly id: string
  readonly permits: number
  readonly limit: number
  readonly expiry: Span
}

export interface State {
  /** In the order of acquisition. */
  readonly holds: ReadonlyArray<Hold>
  /** First in line first. */
  readonly line: ReadonlyArray<Place>
  /** Of all tokens that were ever issued. */
  readonly highestToken: bigint
}

export type Operation =
  | {
    readonly _tag: "tryAcquire"
    readonly id: string
    readonly permits: number
    readonly limit: number
    readonly ttl: bigint
    readonly queue: boolean
  }
  | { readonly _tag: "release"; readonly id: string; readonly permits: number }
  | {
    readonly _tag: "refresh"
    readonly id: string
    readonly permits: number
    readonly limit: number
    readonly ttl: bigint
  }
  | { readonly _tag: "getCount" }
  | { readonly _tag: "inspect" }

export type Answer = boolean | number | Acquired | Waiting | SemaphoreState

/** An operation with its answer. */
export interface Call {
  readonly operation: Operation
  readonly answer: Answer
  readonly at: Span
}

/** How exactly a store keeps time, in nanoseconds. */
export interface Precision {
  /** How much later than its ttl a lease may expire. */
  readonly granularity: bigint
  /** By how many parts in a thousand the store's clock may run faster than ours. */
  readonly drift: bigint
}

export const empty: State = { holds: [], line: [], highestToken: -1n }

const sum = (entries: ReadonlyArray<{ readonly permits: number }>) =>
  entries.reduce((total, { permits }) => total + permits, 0)

const without = <A extends { readonly id: string }>(entries: ReadonlyArray<A>, id: string) =>
  entries.filter((entry) => entry.id !== id)

const replace = <A extends { readonly id: string }>(entries: ReadonlyArray<A>, changed: A) =>
  entries.map((entry) => entry.id === changed.id ? changed : entry)

/** What the model expects as an answer. */
export type Expected =
  | { readonly _tag: "Acquired"; readonly token: bigint | undefined }
  | { readonly _tag: "AcquiredAnew"; readonly tokenAbove: bigint }
  | { readonly _tag: "Waiting"; readonly position: number }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Number"; readonly permits: number }
  | { readonly _tag: "State"; readonly state: State }

interface Step {
  readonly expected: Expected
  readonly next: State
}

/**
 * An operation on a state in which nothing has expired. Of the answer only the token is used, if one was issued: no model
 * could know it.
 */
const step = (
  state: State,
  operation: Operation,
  issued: bigint | undefined,
  expiryIn: (ttl: bigint) => Span
): Step => {
  const { highestToken, holds, line } = state
  const own = "id" in operation ? holds.find(({ id }) => id === operation.id) : undefined

  switch (operation._tag) {
    case "tryAcquire": {
      const { id, limit, permits, queue, ttl } = operation
      const rank = line.findIndex((place) => place.id === id)
      const position = rank < 0 ? line.length : rank
      const expiry = expiryIn(ttl)

      // B1: who holds that number extends its lease, under the same token.
      if (own?.permits === permits) {
        return {
          expected: { _tag: "Acquired", token: own.token },
          next: { ...state, holds: replace(holds, { ...own, expiry }), line: without(line, id) }
        }
      }
      // B2: succeeds when it fits together with everyone ahead; what it holds itself counts as free.
      if (sum(line.slice(0, position)) + permits <= limit - sum(without(holds, id))) {
        return {
          // S3: a new acquisition has a token that is higher than all before.
          expected: { _tag: "AcquiredAnew", tokenAbove: highestToken },
          next: {
            holds: [...without(holds, id), { id, permits, token: issued, expiry }],
            line: without(line, id),
            highestToken: issued ?? highestToken
          }
        }
      }
      if (!queue) return { expected: { _tag: "Refused" }, next: state }
      // B3: joins the line, or keeps its place there.
      const place: Place = { id, permits, limit, expiry }
      return {
        expected: { _tag: "Waiting", position },
        next: { ...state, line: rank < 0 ? [...line, place] : replace(line, place) }
      }
    }

    // B4: gives up at most its permits, and its place.
    case "release": {
      const freed = Math.min(own?.permits ?? 0, operation.permits)
      const left = own && own.permits > freed ? { ...own, permits: own.permits - freed } : undefined
      return {
        expected: { _tag: "Number", permits: freed },
        next: {
          ...state,
          holds: left ? replace(holds, left) : without(holds, operation.id),
          line: without(line, operation.id)
        }
      }
    }

    // B5: extends the lease of a hold, and nothing else.
    case "refresh":
      return own === undefined
        ? { expected: { _tag: "Refused" }, next: state }
        : {
          expected: { _tag: "Acquired", token: own.token },
          next: { ...state, holds: replace(holds, { ...own, expiry: expiryIn(operation.ttl) }) }
        }

    // B10: looks change nothing.
    case "getCount":
      return { expected: { _tag: "Number", permits: sum(holds) }, next: state }
    case "inspect":
      return { expected: { _tag: "State", state }, next: state }
  }
}

/** B6: the states in which the key may be when what has expired counts for nothing: one, unless that is uncertain. */
export const expire = (state: State, at: Span): ReadonlyArray<State> => {
  const entries = [...state.holds, ...state.line]
  const lives = (entry: Hold | Place) => at.latest < entry.expiry.earliest
  const isGone = (entry: Hold | Place) => at.earliest > entry.expiry.latest
  let gone: ReadonlyArray<ReadonlySet<Hold | Place>> = [new Set(entries.filter(isGone))]
  for (const entry of entries) {
    if (!lives(entry) && !isGone(entry)) gone = gone.flatMap((set) => [set, new Set([...set, entry])])
  }
  return gone.map((set) =>
    set.size === 0 ? state : {
      ...state,
      holds: state.holds.filter((hold) => !set.has(hold)),
      line: state.line.filter((place) => !set.has(place))
    }
  )
}

const tokenIn = (answer: Answer): bigint | undefined =>
  typeof answer === "object" && "_tag" in answer && answer._tag === "Acquired" ? answer.fencingToken : undefined

const isAcquired = (answer: Answer): answer is true | Acquired =>
  answer === true || typeof answer === "object" && "_tag" in answer && answer._tag === "Acquired"

const agrees = (expected: Expected, answer: Answer, at: Span, granularity: bigint): boolean => {
  switch (expected._tag) {
    case "Acquired":
      return isAcquired(answer) && expected.token === tokenIn(answer)
    case "AcquiredAnew":
      return isAcquired(answer) && (answer === true || answer.fencingToken > expected.tokenAbove)
    case "Waiting":
      return typeof answer === "object" && "_tag" in answer && answer._tag === "Waiting"
        && answer.position === expected.position
    case "Refused":
      return answer === false
    case "Number":
      return answer === expected.permits
    case "State":
      return typeof answer === "object" && "holders" in answer
        && isSame(expected.state.holds, answer.holders, at, granularity)
        && isSame(expected.state.line, answer.line, at, granularity)
  }
}

const isSame = (
  expected: ReadonlyArray<Hold | Place>,
  actual: SemaphoreState["holders"] | SemaphoreState["line"],
  at: Span,
  granularity: bigint
) =>
  expected.length === actual.length && expected.every((entry, index) => {
    const { identifier, permits, remaining, ...rest } = actual[index]!
    const left = Duration.toNanosUnsafe(remaining)
    const token: FencingToken | undefined = "fencingToken" in rest ? rest.fencingToken as FencingToken : undefined
    return entry.id === identifier && entry.permits === permits && (!("token" in entry) || entry.token === token)
      // A store may tell the time left as coarsely as it keeps it, or in milliseconds.
      && left <= entry.expiry.latest - at.earliest + 1_000_000n &&
      left >= entry.expiry.earliest - at.latest - (granularity > 1_000_000n ? granularity : 1_000_000n)
  })

const outcomes = (state: State, { answer, at, operation }: Call, precision: Precision): ReadonlyArray<Step> => {
  const expiryIn = (ttl: bigint): Span => ({
    earliest: at.earliest + ttl - ttl * precision.drift / 1000n,
    latest: at.latest + ttl + precision.granularity
  })
  return expire(state, at).map((live) => step(live, operation, tokenIn(answer), expiryIn))
}

/** The states in which a key may be after a call; none if no state allows its answer. */
export const after = (state: State, call: Call, precision: Precision): ReadonlyArray<State> =>
  outcomes(state, call, precision).flatMap(({ expected, next }) =>
    agrees(expected, call.answer, call.at, precision.granularity) ? [next] : []
  )

/** The answers that would have been right. */
export const expected = (state: State, call: Call, precision: Precision): ReadonlyArray<Expected> =>
  outcomes(state, call, precision).map((outcome) => outcome.expected)

/** Equal for equal states. */
export const identity = ({ highestToken, holds, line }: State): string =>
  [
    highestToken,
    ...holds.map(({ expiry, id, permits, token }) => [id, permits, token, expiry.earliest, expiry.latest].join()),
    "|",
    ...line.map(({ expiry, id, limit, permits }) => [id, permits, limit, expiry.earliest, expiry.latest].join())
  ].join(";")

/** Of several states, each once. */
export const distinct = (states: ReadonlyArray<State>): ReadonlyArray<State> =>
  Array.from(new Map(states.map((state) => [identity(state), state])).values())

/** The waiters that can go; not those that hold something too, and want another number. */
export const ableToGo = ({ holds, line }: State): ReadonlyArray<string> => {
  let demand = sum(holds)
  return line.flatMap(({ id, limit, permits }) => {
    demand += permits
    return demand <= limit && !holds.some((hold) => hold.id === id) ? [id] : []
  })
}
