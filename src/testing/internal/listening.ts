/** Records the notifications of a key. Each process has one subscription, however many contenders it has. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { DistributedSemaphoreBacking } from "../../core/Backing.ts"
import { equal, show } from "./assert.ts"
import type { Subject } from "./subject.ts"

/** A waiter, and the token of its place. */
export type Grant = readonly [id: string, token: bigint]

export interface Listening {
  /** Fails unless exactly these grants were heard since the last check, each in the process of its waiter. */
  readonly hears: (...grants: ReadonlyArray<Grant>) => Effect.Effect<void, unknown>
  /** Fails unless these grants, maybe among others, were heard since the last check. */
  readonly hearsAmongOthers: (...grants: ReadonlyArray<Grant>) => Effect.Effect<void, unknown>
  /** Waits until every subscription was established again since the last check. */
  readonly standsAgain: Effect.Effect<void, unknown>
}

export const make = Effect.fnUntraced(function*(
  { eventually, pass, processOf }: Pick<Subject, "eventually" | "pass" | "processOf">,
  key: string,
  ids: ReadonlyArray<string>
): Effect.fn.Return<Listening, unknown, Scope.Scope> {
  const heard = new Map<DistributedSemaphoreBacking, Array<bigint | undefined>>()
  const listeners = Array.from(new Set(ids.map(processOf)))
  for (const process of listeners) {
    const signals: Array<bigint | undefined> = []
    heard.set(process, signals)
    yield* Effect.forkScoped(
      Stream.runForEach(process.onPermitsReleased!(key), (token) => Effect.sync(() => signals.push(token as never))),
      { startImmediately: true }
    )
  }

  const clear = () => heard.forEach((signals) => signals.splice(0))
  const isHeard = ([id, token]: Grant) => heard.get(processOf(id))!.includes(token)

  const standsAgain = Effect.andThen(
    eventually(
      `the subscriptions of the processes of ${show(ids)} are established`,
      () => listeners.every((process) => heard.get(process)!.includes(undefined))
    ),
    Effect.sync(clear)
  )

  const hearsAmongOthers: Listening["hearsAmongOthers"] = Effect.fnUntraced(function*(...grants) {
    yield* Effect.ignoreCause(eventually("", () => grants.every(isHeard)))
    equal(grants.filter(isHeard), grants, "grants that are heard in the process of the waiter")
  })

  yield* standsAgain
  return {
    standsAgain,
    hearsAmongOthers: (...grants) => Effect.andThen(hearsAmongOthers(...grants), Effect.sync(clear)),
    hears: Effect.fnUntraced(function*(...grants) {
      yield* hearsAmongOthers(...grants)
      // This leaves time for notifications that should not come.
      yield* pass(Duration.millis(20))
      // A process may hear of another's grants, too.
      const all = new Set(Array.from(heard.values()).flat())
      equal(
        Array.from(all, String).toSorted(),
        grants.map(([, token]) => String(token)).toSorted(),
        "tokens that are heard"
      )
      clear()
    })
  }
})
