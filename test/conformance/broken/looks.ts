/** B10: looks change nothing. */
import { Duration, Effect } from "effect"
import { broken, holdersOf } from "./broken.ts"

export const backings = [
  broken("B10: a look does not extend a lease", "extends leases when they are counted", (memory) => ({
    getCount: (key, ttl) =>
      Effect.gen(function*() {
        for (const { identifier } of yield* holdersOf(memory, key)) yield* memory.refresh(key, identifier, ttl, 1, 1)
        return yield* memory.getCount(key, ttl)
      })
  })),

  broken("B10: a look changes nothing that can be seen", "empties the line when it is inspected", (memory) => ({
    inspect: (key) =>
      Effect.tap(
        memory.inspect!(key),
        ({ line }) => Effect.forEach(line, ({ identifier }) => memory.release(key, identifier, 1))
      )
  })),

  broken("B10: inspect shows the time left of holds and places", "shows half of the time left", (memory) => ({
    inspect: (key) =>
      Effect.map(memory.inspect!(key), ({ holders, line, ...counts }) => ({
        ...counts,
        holders: holders.map((holder) => ({ ...holder, remaining: Duration.divideUnsafe(holder.remaining, 2) })),
        line
      }))
  }))
]
