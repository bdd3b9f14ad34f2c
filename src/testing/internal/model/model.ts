/**
 * The contract as a model: what a semaphore of one key answers, and what its state is afterwards. It is written to be read:
 * comments name each rule where it is kept.
 *
 * Nobody but the store knows its clock. What a caller knows is a span: an operation took effect between its call and its
 * answer. So a lease ends within a span too, and during that span the model allows both: that it lasts, and that it is over.
 */
import type { Acquired, SemaphoreState, Waiting } from "../../../core/Backing.ts"

/** Nanoseconds of the monotonic clock. */
export interface Span {
  readonly earliest: bigint
  readonly latest: bigint
}

export interface Contender {
  readonly id: string
  readonly permits: number
  /** The smallest limit that it asked with. */
  readonly limit: number
  /** Absent if the backing has no tokens. */
  readonly token: bigint | undefined
  readonly expiry: Span
  /** Whether it was granted, at once or later. */
  readonly holds: boolean
}

export interface State {
  /** In the order in which they asked: holders first, then waiters. */
  readonly line: ReadonlyArray<Contender>
  /** The highest of all tokens that were ever issued. */
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
  | { readonly _tag: "release"; readonly id: string; readonly permits: number; readonly token: bigint | undefined }
  | {
    readonly _tag: "refresh"
    readonly id: string
    readonly permits: number
    readonly limit: number
    readonly ttl: bigint
    readonly token: bigint | undefined
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

export const empty: State = { line: [], highestToken: -1n }

/** An answer that the model expects. It can't know the token of a contender that joins the line. */
export type Expected =
  | { readonly _tag: "Acquired"; readonly token: Token; readonly permits: number | undefined }
  | { readonly _tag: "Waiting"; readonly token: Token; readonly position: number }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Number"; readonly permits: number }
  | { readonly _tag: "State"; readonly state: State }

export type Token =
  | { readonly _tag: "Known"; readonly value: bigint | undefined }
  | { readonly _tag: "Above"; readonly value: bigint }

export interface Outcome {
  readonly expected: Expected
  readonly next: State
}

export const sum = (contenders: ReadonlyArray<Contender>): number =>
  contenders.reduce((total, { permits }) => total + permits, 0)

export const holdersOf = ({ line }: State): ReadonlyArray<Contender> => line.filter(({ holds }) => holds)

export const waitersOf = ({ line }: State): ReadonlyArray<Contender> => line.filter(({ holds }) => !holds)

const without = (state: State, contender: Contender | undefined): State => ({
  ...state,
  line: state.line.filter((other) => other !== contender)
})

const replace = (state: State, before: Contender, after: Contender): State => ({
  ...state,
  line: state.line.map((other) => other === before ? after : other)
})

/**
 * B2: a contender holds if it fits, together with everyone before it, into the smallest limit that any of them asked with. A
 * hold is never taken back.
 */
export const grant = (state: State): State => {
  let total = 0
  let limit = Number.POSITIVE_INFINITY
  const line = state.line.map((contender) => {
    total += contender.permits
    limit = Math.min(limit, contender.limit)
    return contender.holds || total > limit ? contender : { ...contender, holds: true }
  })
  return { ...state, line }
}

const answerOf = (state: State, contender: Contender, token: Token, asked = contender.permits): Expected => {
  const position = waitersOf(state).findIndex(({ id }) => id === contender.id)
  const permits = contender.permits < asked ? contender.permits : undefined
  return position < 0 ? { _tag: "Acquired", token, permits } : { _tag: "Waiting", token, position }
}

/**
 * Does an operation on a state from which the expired contenders are gone, and in which what they left is granted. `issued` is the
 * token in the real answer, if there is one: no model could know it.
 */
export const step = (
  state: State,
  operation: Operation,
  issued: bigint | undefined,
  expiryIn: (ttl: bigint) => Span
): Outcome => {
  const found = "id" in operation ? state.line.find(({ id }) => id === operation.id) : undefined

  const answer = (next: State, contender: Contender, token: Token, asked?: number): Outcome => ({
    expected: answerOf(next, contender, token, asked),
    next
  })
  const refused: Outcome = { expected: { _tag: "Refused" }, next: state }

  switch (operation._tag) {
    case "tryAcquire": {
      const { id, limit, permits, queue, ttl } = operation
      const expiry = expiryIn(ttl)
      // B1: if it asks again for that number of permits, it keeps its hold or place, with the same token.
      if (found?.permits === permits) {
        if (!queue && !found.holds) return refused
        const kept = { ...found, expiry, limit: Math.min(found.limit, limit) }
        return answer(replace(state, found, kept), kept, { _tag: "Known", value: found.token })
      }
      // B1, B2: otherwise it starts over, at the end of the line.
      const joined: Contender = { id, permits, limit, token: issued, expiry, holds: false }
      const rest = without(state, found)
      const next = grant({ line: [...rest.line, joined], highestToken: issued ?? state.highestToken })
      if (!queue && !next.line.at(-1)!.holds) return refused
      // S3: a contender that joins has a token that is higher than all before.
      return answer(next, joined, { _tag: "Above", value: state.highestToken })
    }

    // B4: gives up at most its permits, or its place, and grants.
    case "release": {
      const own = find(found, operation.token)
      const freed = own?.holds ? Math.min(own.permits, operation.permits) : 0
      const left = own && freed > 0 && freed < own.permits ? { ...own, permits: own.permits - freed } : undefined
      return {
        expected: { _tag: "Number", permits: freed },
        next: grant(own && left ? replace(state, own, left) : without(state, own))
      }
    }

    // B5: extends a hold or a place, and nothing else. The answer says if fewer permits are held.
    case "refresh": {
      const own = find(found, operation.token)
      if (own === undefined) return refused
      const kept = { ...own, expiry: expiryIn(operation.ttl) }
      return answer(replace(state, own, kept), kept, { _tag: "Known", value: own.token }, operation.permits)
    }

    // B10: looks change nothing.
    case "getCount":
      return { expected: { _tag: "Number", permits: sum(holdersOf(state)) }, next: state }
    case "inspect":
      return { expected: { _tag: "State", state }, next: state }
  }
}

/** Returns what an acquire or a refresh answers of the contender with this token, if it changes nothing. */
export const stands = (state: State, operation: Operation, token: bigint | undefined): Expected => {
  const own = state.line.find((contender) => contender.token === token)
  return own === undefined || !("limit" in operation) ? { _tag: "Refused" } : answerOf(
    state,
    own,
    { _tag: "Known", value: token },
    operation._tag === "refresh" ? operation.permits : own.permits
  )
}

/** B4, B5: with a token, that one acquisition is meant. */
const find = (contender: Contender | undefined, token: bigint | undefined) =>
  token === undefined || contender?.token === token ? contender : undefined

/** B6: returns the states in which the key may be without the expired: several, if it is uncertain who has expired. */
export const expire = (state: State, at: Span): ReadonlyArray<State> => {
  const lives = ({ expiry }: Contender) => at.latest < expiry.earliest
  const isGone = ({ expiry }: Contender) => at.earliest > expiry.latest
  let gone: ReadonlyArray<ReadonlySet<Contender>> = [new Set(state.line.filter(isGone))]
  for (const contender of state.line) {
    if (!lives(contender) && !isGone(contender)) gone = gone.flatMap((set) => [set, new Set([...set, contender])])
  }
  return gone.map((set) =>
    set.size === 0 ? state : { ...state, line: state.line.filter((contender) => !set.has(contender)) }
  )
}

/** Returns a string that is equal for equal states. */
export const identity = ({ highestToken, line }: State): string =>
  [
    highestToken,
    ...line.map(({ expiry, holds, id, limit, permits, token }) =>
      [id, permits, limit, token, holds, expiry.earliest, expiry.latest].join()
    )
  ].join(";")

/** Returns each of several states once. */
export const distinct = (states: ReadonlyArray<State>): ReadonlyArray<State> =>
  Array.from(new Map(states.map((state) => [identity(state), state])).values())
