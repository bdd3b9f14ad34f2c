/**
 * Callers that ask the same question about a semaphore share it. With a thousand waiters, a thousand questions at once
 * would read the line a thousand times.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { SemaphoreNames } from "./names.ts"

/** How many milliseconds a caller waits for a sign of life of somebody else's question, or of a watch. */
export const patience = 250

/**
 * Shares a question between its callers: those that ask while one about the same semaphore is under way share the next
 * one. It begins when the answer comes, or when `patience` has passed without a part of it.
 */
export const share = <A>(
  question: (names: SemaphoreNames, onPart: () => void) => Effect.Effect<A, Error>
): (names: SemaphoreNames) => Effect.Effect<A, Error> => {
  /** For each semaphore, the question that is under way, and the answer to the next one once somebody waits for it. */
  const asked = new Map<string, { heard: number; next: Deferred.Deferred<A, Error> | undefined }>()

  return (names) =>
    Effect.suspend(() => {
      const underWay = asked.get(names.folder)
      const begin = (result: Deferred.Deferred<A, Error>) => {
        const turn: NonNullable<typeof underWay> = { heard: performance.now(), next: undefined }
        asked.set(names.folder, turn)
        Effect.runFork(question(names, () => void (turn.heard = performance.now()))).addObserver((exit) => {
          if (asked.get(names.folder) === turn) {
            asked.delete(names.folder)
            if (turn.next !== undefined) begin(turn.next)
          }
          Deferred.doneUnsafe(result, exit)
        })
      }
      const next = underWay?.next ?? Deferred.makeUnsafe<A, Error>()
      if (underWay === undefined) begin(next)
      else if (underWay.next === undefined) {
        underWay.next = next
        const losePatience = () => {
          if (asked.get(names.folder) !== underWay) return
          const left = underWay.heard + patience - performance.now()
          if (left > 0) setTimeout(losePatience, left)
          else begin(next)
        }
        losePatience()
      }
      return Deferred.await(next)
    })
}
