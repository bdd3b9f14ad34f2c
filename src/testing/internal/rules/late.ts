/** B12: late requests die. The tests of each store show that; this case shows that a time limit that is not over changes nothing. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { backingCase } from "../../BackingCase.ts"
import { equal, isTrue, show } from "../assert.ts"

export const cases = [
  backingCase(
    "B12",
    "a request that takes effect within its time limit is answered as if it had none",
    [],
    ({ long, options, processOf, semaphore }) =>
      Effect.gen(function*() {
        const { count, key } = semaphore(1)
        const ask = (id: string, queue: boolean, within: Duration.Duration) =>
          processOf(id).tryAcquire(key, id, long, 1, 1, { queue, within })
        for (const within of [Duration.seconds(20), long]) {
          const held = yield* ask("a", false, within)
          isTrue(held === true || typeof held === "object" && held._tag === "Acquired", `it holds, got ${show(held)}`)
          equal(yield* ask("b", false, within), false, "the answer to a request without queue that does not fit")
          if (!options.has("queue")) continue
          const waits = yield* ask("b", true, within)
          equal(typeof waits === "object" ? waits._tag : waits, "Waiting", "the answer to one that waits")
        }
        equal(yield* count, 1, "permits held")
      })
  )
]
