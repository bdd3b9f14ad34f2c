/** B4: releases of permits, and of the place in line. */
import { Effect } from "effect"
import { broken, holdersOf, holdOf } from "./broken.ts"
import { Plain, wrong } from "./plain.ts"

export const backings = [
  broken("B4: a part of a hold can be given up", "gives up all of a hold", (memory) => ({
    release: (key, id, permits, options) =>
      Effect.map(memory.release(key, id, Number.MAX_SAFE_INTEGER, options), (freed) => Math.min(freed, permits))
  })),

  broken("B4: a release frees no more than is held", "says it freed what it was asked to free", (memory) => ({
    release: (key, id, permits, options) => Effect.as(memory.release(key, id, permits, options), permits)
  })),

  broken(
    "B4: an unknown holder frees nothing, of its own or of others",
    "lets a release free another holder's permits",
    (memory) => ({
      release: (key, id, permits, options) =>
        Effect.gen(function*() {
          const freed = yield* memory.release(key, id, permits, options)
          const [first] = yield* holdersOf(memory, key)
          return freed > 0 || first === undefined ? freed : yield* memory.release(key, first.identifier, permits)
        })
    })
  ),

  broken(
    "B4: a release by a waiter gives up its place, however many permits it names, and frees nothing",
    "leaks places in line",
    (memory) => ({
      release: (key, id, ...rest) =>
        Effect.flatMap(holdOf(memory, key, id), (hold) => hold ? memory.release(key, id, ...rest) : Effect.succeed(0))
    })
  ),

  broken("B4: a release with the token of the hold frees it", "takes every token for an old one", (memory) => ({
    release: (key, id, permits, options) =>
      options?.fencingToken === undefined ? memory.release(key, id, permits) : Effect.succeed(0)
  })),

  broken(
    "B4: a release with an old token touches no newer hold",
    "ignores the token when it releases a hold",
    (memory) => ({
      release: (key, id, permits, options) =>
        Effect.flatMap(
          holdOf(memory, key, id),
          (hold) => memory.release(key, id, permits, hold ? undefined : options)
        )
    })
  ),

  wrong(
    "B4: a release with an old token touches no newer place, not even a granted one",
    "ignores the token when it gives up a place",
    class extends Plain {
      override release(id: string, permits: number, token?: bigint) {
        return super.release(id, permits, this.find(id)?.holds ? token : undefined)
      }
    }
  )
]
