/**
 * Decides whether a history is linearizable: whether its calls can be put into one order, in which each call that ended before
 * another began comes before it, and in which the model gives the same answers.
 *
 * The search is that of J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of visited
 * configurations of G. Lowe, "Testing for linearizability" (2017): a set of calls that leads to a state that was reached with
 * the same set before needs no second look. Keys are independent of each other, so each is searched by itself.
 *
 * Where a store may say later where a contender stands, its acquires and refreshes count as two calls under way at the same
 * time: one that takes effect, and one that looks.
 */
import * as Answers from "./answers.ts"
import { describeAnswer, describeExpected, describeOperation } from "./descriptions.ts"
import type { Recorded } from "./histories.ts"
import type { Precision, State } from "./model.ts"
import * as Model from "./model.ts"

/** A call, or one of its two parts: `after` returns the states in which the key may be after it. */
interface Part {
  readonly call: Recorded
  readonly after: (state: State, call: Recorded, precision: Precision) => ReadonlyArray<State>
}

/** Returns why a history is not linearizable, or `undefined` if it is. */
export const linearize = (
  history: ReadonlyArray<Recorded>,
  precision: Precision,
  standsLater: boolean
): string | undefined => {
  const parts = history.flatMap((call): ReadonlyArray<Part> =>
    standsLater && Answers.tokenIn(call.answer) !== undefined
      ? [{ call, after: Answers.afterEffect }, { call, after: Answers.afterLook }]
      : [{ call, after: Answers.after }]
  )
  const visited = new Set<string>()
  let longest: { readonly done: bigint; readonly length: number; readonly state: State } = {
    done: 0n,
    length: 0,
    state: Model.empty
  }

  /** Returns the parts that may come next: those that began before any remaining one had ended. */
  const candidates = (done: bigint): ReadonlyArray<number> => {
    const left = parts.flatMap((_, index) => (done >> BigInt(index) & 1n) === 0n ? [index] : [])
    const firstEnd = Math.min(...left.map((index) => parts[index]!.call.returned))
    return left.filter((index) => parts[index]!.call.invoked < firstEnd)
  }

  const search = (done: bigint, length: number, state: State): boolean => {
    if (length === parts.length) return true
    if (length > longest.length) longest = { done, length, state }
    const configuration = `${done} ${Model.identity(state)}`
    if (visited.has(configuration)) return false
    visited.add(configuration)
    return candidates(done).some((index) => {
      const { after, call } = parts[index]!
      return after(state, call, precision).some((next) => search(done | 1n << BigInt(index), length + 1, next))
    })
  }

  if (search(0n, 0, Model.empty)) return undefined
  const stuck = new Set(
    candidates(longest.done).map((index) => {
      const { call } = parts[index]!
      const right = Answers.expected(longest.state, call, precision).map(describeExpected)
      return `client ${call.client}, ${describeOperation(call.operation)}: answered ${describeAnswer(call.answer)}`
        + `, right would be ${Array.from(new Set(right)).join(", or ")}`
    })
  )
  const done = new Set(parts.flatMap(({ call }, index) => (longest.done >> BigInt(index) & 1n) === 0n ? [] : [call]))
  return `the history is not linearizable: no order of its ${history.length} calls explains the answers. `
    + `After the best ${done.size} calls, none of these can be next:\n${Array.from(stuck).join("\n")}\n`
}
