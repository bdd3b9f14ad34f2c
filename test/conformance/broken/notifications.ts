/** B7, C2, L1 and L3: notifications. */
import { Duration, Effect, Stream } from "effect"
import { broken, firstSignal, lineOf } from "./broken.ts"

let restarts = 0

export const backings = [
  broken("L1: a release tells the first in line", "wakes, but not in order", (memory) => ({
    onPermitsReleased: (key, id) =>
      Stream.concat(
        firstSignal(memory, key, id),
        Stream.drop(memory.onPermitsReleased!(key), 1).pipe(
          Stream.filterEffect(() => Effect.map(lineOf(memory, key), (line) => line.at(-1)?.identifier === id))
        )
      )
  })),

  broken(
    "C2: a release wakes those at the head of the line who fit together, and nobody else",
    "wakes everybody",
    (memory) => ({
      onPermitsReleased: (key) => memory.onPermitsReleased!(key)
    })
  ),

  broken(
    "L3: a lost notification delays the first in line by 1 s at most",
    "relies on its notifications",
    (memory) => ({
      tryAcquire: (...args) =>
        Effect.map(memory.tryAcquire(...args), (answer) =>
          typeof answer === "object" && answer._tag === "Waiting"
            ? { ...answer, retryAfter: Duration.seconds(2) }
            : answer)
    })
  ),

  broken("B7: emits when the subscription stands", "does not say when the subscription stands", (memory) => ({
    onPermitsReleased: (key, id) => Stream.drop(memory.onPermitsReleased!(key, id), 1)
  })),

  broken("B7: a release is heard", "emits nothing", () => ({ onPermitsReleased: () => Stream.never })),

  broken("B7: goes on after the store was restarted", "does not subscribe again after a restart", (memory) => {
    const before = restarts
    return {
      onPermitsReleased: (key, id) => Stream.filter(memory.onPermitsReleased!(key, id), () => restarts === before)
    }
  }, { restart: Effect.sync(() => void restarts++) })
]
