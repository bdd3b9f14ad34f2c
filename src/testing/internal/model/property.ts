/** Properties: random inputs, shrunk when they fail. */
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { fail, show } from "../assert.ts"
import type { Subject } from "../subject.ts"

/** How long a failed input is shrunk. Where races are real, a smaller one may not fail, and takes seconds to show it. */
const shrinkMillis = 20_000

/** Checks a property. If it fails, dies with the failure of the smallest input that was found, and with how to replay it. */
export const check = <A>(
  subject: Subject,
  arbitrary: Arbitrary.Arbitrary<A>,
  property: (value: A) => Effect.Effect<void, unknown>,
  { inRealTime, runs }: { readonly runs: number; readonly inRealTime: number }
) =>
  Effect.gen(function*() {
    const { replay, virtualTime } = subject.options
    let end = Number.POSITIVE_INFINITY
    const result = yield* Arbitrary.checkEffect(
      arbitrary,
      (value) =>
        performance.now() > end ? Effect.succeed(true) : property(value).pipe(
          Effect.as(true),
          Effect.catchCause((cause) => {
            if (Cause.hasInterrupts(cause)) return Effect.failCause(cause)
            end = Math.min(end, performance.now() + shrinkMillis)
            return Effect.fail(cause)
          })
        ),
      {
        runs,
        // Larger than any length: so inputs have every length from the first run on. By default most would have a few steps.
        size: 1000,
        // Runs in real time mostly wait, so many go on at once. Runs in virtual time would share it, so they take turns.
        concurrency: virtualTime ? 1 : inRealTime,
        maxShrinks: virtualTime ? 500 : 50,
        replay
      }
    )
    if (result._tag === "Passed") return
    if (result._tag !== "Falsified") return fail(Arbitrary.formatCheckFailure(result as never) ?? result._tag)
    const { error } = result.failure as Extract<typeof result.failure, { readonly _tag: "PropertyError" }>
    const cause = Cause.squash(error as Cause.Cause<unknown>)
    fail(
      `${
        cause instanceof Error ? cause.message : show(cause)
      }\n(run ${result.runs}, after ${result.shrinks} steps of shrinking)\nReplay: ${result.replay}`
    )
  })
