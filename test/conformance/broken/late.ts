/** B12: late requests die, and others do not. */
import { Effect } from "effect"
import { broken } from "./broken.ts"

export const backings = [
  broken(
    "B12: a request that takes effect within its time limit is answered as if it had none",
    "takes every request with a time limit for late",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        options?.within === undefined
          ? memory.tryAcquire(key, id, ttl, limit, permits, options)
          : Effect.succeed(false)
    })
  )
]
