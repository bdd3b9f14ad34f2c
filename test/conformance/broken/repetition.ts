/** S5 and C5: operations whose replies are lost, and what is left in the end. */
import { Effect } from "effect"
import { broken, holdersOf, lineOf, unlessAcquired } from "./broken.ts"

export const backings = [
  broken("S5: a repeated request with queue has one place", "takes a place with every request", (memory) => {
    let copies = 0
    return unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
      Effect.gen(function*() {
        const isInLine = (yield* lineOf(memory, key)).some(({ identifier }) => identifier === id)
        const answer = yield* memory.tryAcquire(key, id, ttl, limit, permits, options)
        if (isInLine && options?.queue) {
          yield* memory.tryAcquire(key, `${id} ${copies++}`, ttl, limit, permits, options)
        }
        return answer
      }))
  }),

  broken(
    "S5: a repeated release frees nothing of anyone else's",
    "frees the next hold by a repeated release",
    (memory) => {
      const released = new Set<string>()
      return {
        release: (key, id, permits, options) =>
          Effect.gen(function*() {
            const name = JSON.stringify([key, id])
            const freed = yield* memory.release(key, id, permits, options)
            if (freed === 0 && released.has(name)) {
              const latest = (yield* holdersOf(memory, key)).at(-1)
              if (latest) return yield* memory.release(key, latest.identifier, permits)
            }
            if (freed > 0) released.add(name)
            return freed
          })
      }
    }
  ),

  broken(
    "C5: an idle key leaves nothing in the store, once its leases would have ended",
    "leaves an entry of every key",
    () => ({}),
    {
      footprint: () => Effect.succeed(1)
    }
  )
]
