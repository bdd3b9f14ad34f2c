/** B4, B7: checks in random sequences that each grant is notified in the process of its waiter, and nothing but grants. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { show } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { now } from "../subject.ts"
import * as Answers from "./answers.ts"
import type { Call, State } from "./model.ts"
import * as Model from "./model.ts"

export interface Grants {
  /** Remembers which processes may hear of a waiter's grant: the one in which it asked last, and those that refreshed it since. */
  readonly remember: (process: number, key: 0 | 1, call: Call) => void
  /**
   * Returns which notification of a call was wrong or missing; `before` and `after` are the possible states. The contenders that ask
   * in the call need no notification: their answers say that they hold.
   */
  readonly examine: (
    key: 0 | 1,
    call: Call,
    askers: ReadonlySet<string>,
    before: ReadonlyArray<State>,
    after: ReadonlyArray<State>
  ) => Effect.Effect<string | undefined>
}

export const make = Effect.fnUntraced(function*(
  subject: Subject,
  keys: readonly [string, string]
): Effect.fn.Return<Grants, unknown, Scope.Scope> {
  const nobody = () => [new Set<bigint | undefined>(), new Set<bigint | undefined>()] as const
  const heard = subject.processes.map(nobody)
  for (const [process, backing] of subject.processes.entries()) {
    for (const key of [0, 1] as const) {
      yield* Effect.forkScoped(
        Stream.runForEach(
          backing.onPermitsReleased!(keys[key]),
          (token) => Effect.sync(() => heard[process]![key].add(token as never))
        ),
        { startImmediately: true }
      )
    }
  }
  yield* subject.eventually(
    "all subscriptions are established",
    () => heard.every((ofKeys) => ofKeys.every((tokens) => tokens.has(undefined)))
  )

  /** One map for each key: tokens differ within a key only. */
  const processesOf = keys.map(() => new Map<bigint, ReadonlyArray<number>>())

  const waits = (state: State, token: bigint) => Model.waitersOf(state).some((one) => one.token === token)
  const holds = (state: State, token: bigint) => Model.holdersOf(state).some((one) => one.token === token)

  /**
   * Returns whether a hold may be over within a second after a call. Where a notification makes the process look, as without a
   * server, it may come too late to find such a hold, on a busy machine.
   */
  const isOverSoon = (states: ReadonlyArray<State>, { at }: Call, token: bigint) => {
    const soon = at.latest + 1_000_000_000n
    const later = states.flatMap((state) => Model.expire(state, { earliest: soon, latest: soon }))
    return !subject.options.virtualTime && later.some((state) => !holds(state, token))
  }

  return {
    remember: (process, key, { answer, operation }) => {
      const token = Answers.tokenIn(answer)
      if (token === undefined) return
      const others = operation._tag === "refresh" ? processesOf[key]!.get(token) ?? [] : []
      processesOf[key]!.set(token, [...others, process])
    },

    examine: Effect.fnUntraced(function*(key, call, askers, before, after) {
      for (const { id, token } of after[0]!.line) {
        if (token === undefined || askers.has(id)) continue
        const isGranted = before.every((state) => waits(state, token)) && after.every((state) => holds(state, token))
        if (!isGranted || isOverSoon(after, call, token)) continue
        const isHeard = () => processesOf[key]!.get(token)!.some((process) => heard[process]![key].has(token))
        yield* Effect.ignoreCause(subject.eventually("", isHeard))
        if (!isHeard()) {
          return `nobody notified the process of ${show(id)} that its place with token ${token} was granted`
        }
      }

      const at = { earliest: call.at.earliest, latest: yield* now }
      const possible = after.flatMap((state) => Model.expire(state, at)).map(Model.grant)
      for (const ofKeys of heard) {
        for (const token of ofKeys[key]) {
          if (token !== undefined && possible.every((state) => waits(state, token))) {
            return `a process was notified that token ${token} was granted, which still waits`
          }
        }
      }
      return undefined
    })
  }
})
