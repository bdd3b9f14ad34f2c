/** B4: giving permits back, and the place in line. */
import { Effect, Queue, Stream } from "effect"
import { broken, firstSignal, holdersOf, holdOf, lineOf } from "./broken.ts"

export const backings = [
  broken("B4: a part of a hold can be given up", "gives up all of a hold", (memory) => ({
    release: (key, id, permits) =>
      Effect.map(memory.release(key, id, Number.MAX_SAFE_INTEGER), (freed) => Math.min(freed, permits))
  })),

  broken("B4: frees no more than is held", "says it freed what it was asked to free", (memory) => ({
    release: (key, id, permits) => Effect.as(memory.release(key, id, permits), permits)
  })),

  broken(
    "B4: an unknown holder frees nothing, of its own or of others",
    "lets a release free another holder's permits",
    (memory) => ({
      release: (key, id, permits) =>
        Effect.gen(function*() {
          const freed = yield* memory.release(key, id, permits)
          const [first] = yield* holdersOf(memory, key)
          return freed > 0 || first === undefined ? freed : yield* memory.release(key, first.identifier, permits)
        })
    })
  ),

  broken("B4: gives up the place in line", "leaks places in line", (memory) => ({
    release: (key, id, permits) =>
      Effect.flatMap(holdOf(memory, key, id), (hold) => hold ? memory.release(key, id, permits) : Effect.succeed(0))
  })),

  broken("B4: wakes whoever can go now", "wakes nobody", (memory) => ({
    onPermitsReleased: (key, id) => Stream.concat(firstSignal(memory, key, id), Stream.never)
  })),

  broken("B4: wakes those behind a waiter that leaves", "wakes nobody when a waiter leaves", (memory) => {
    const signals = new Set<(key: string) => void>()
    return {
      release: (key, id, permits) =>
        Effect.tap(
          memory.release(key, id, permits),
          (freed) => Effect.sync(() => freed > 0 && signals.forEach((signal) => signal(key)))
        ),
      // Whenever a hold is given up, whoever can go is found by looking.
      onPermitsReleased: (key, id) =>
        Stream.callback<void>((queue) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const signal = (released: string) => {
                if (released === key) Queue.offerUnsafe(queue, undefined)
              }
              signals.add(signal)
              signal(key)
              return signal
            }),
            (signal) => Effect.sync(() => signals.delete(signal))
          )
        ).pipe(Stream.filterEffect(() =>
          Effect.map(
            lineOf(memory, key),
            ([first]) => first === undefined || id === undefined || first.identifier === id
          )
        ))
    }
  })
]
