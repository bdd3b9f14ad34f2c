/** B9 and L4: operations at the same time. */
import { Effect } from "effect"
import { broken, holdersOf, holdOf, sum } from "./broken.ts"

export const backings = [
  broken(
    "B9: of many that ask at once, exactly as many acquire as there are permits",
    "reads first, and then writes",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        Effect.gen(function*() {
          const free = limit - sum((yield* holdersOf(memory, key)).filter(({ identifier }) => identifier !== id))
          yield* Effect.yieldNow
          return yield* memory.tryAcquire(key, id, ttl, free >= permits ? limit + limit : limit, permits, options)
        })
    })
  ),

  broken("B9: releases at once free each hold once", "reads first what to free, and then frees it", (memory) => ({
    release: (key, id, permits, options) =>
      Effect.gen(function*() {
        const hold = yield* holdOf(memory, key, id)
        yield* Effect.yieldNow
        yield* memory.release(key, id, permits, options)
        return Math.min(permits, hold?.permits ?? 0)
      })
  })),

  broken(
    "L4: through the semaphore: however work ends, no permit is lost, everything ends and nothing is left",
    "loses a release now and then",
    (memory) => {
      let releases = 0
      return {
        release: (key, id, permits, options) =>
          // The identifiers that the semaphore chooses are UUIDs.
          /^[\da-f-]{36}$/.test(id) && ++releases % 5 === 0
            ? Effect.succeed(permits)
            : memory.release(key, id, permits, options)
      }
    }
  )
]
