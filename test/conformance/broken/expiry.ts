/** B6, S4 and L2: expiry, by the store's clock. */
import { Clock, Duration, Effect } from "effect"
import { broken, isAcquired, unlessAcquired, withExpiry, withTtl } from "./broken.ts"

export const backings = [
  broken("B6: a hold that has expired counts for nothing", "counts expired holds in getCount", (memory) => {
    const holds = new Map<string, Map<string, number>>()
    const ofKey = (key: string) => holds.get(key) ?? holds.set(key, new Map()).get(key)!
    return {
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        Effect.tap(
          memory.tryAcquire(key, id, ttl, limit, permits, options),
          (answer) => Effect.sync(() => isAcquired(answer) && ofKey(key).set(id, permits))
        ),
      release: (key, id, permits, options) =>
        Effect.tap(memory.release(key, id, permits, options), (freed) =>
          Effect.sync(() => {
            const left = (ofKey(key).get(id) ?? 0) - freed
            if (left > 0) ofKey(key).set(id, left)
            else ofKey(key).delete(id)
          })),
      getCount: (key) =>
        Effect.sync(() => Array.from(ofKey(key).values()).reduce((total, permits) => total + permits, 0))
    }
  }),

  broken(
    "B6: a hold does not expire before its ttl",
    "expires a little early",
    (memory) => withTtl(memory, (ttl) => Duration.times(ttl, 0.9))
  ),

  broken(
    "B6: a caller with a short ttl does not shorten another's lease",
    "expires by the caller's ttl",
    (memory) =>
      withExpiry(
        memory,
        Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6),
        ({ since }, now, ttl) => now - since >= ttl
      )
  ),

  broken(
    "B6: a place that has expired counts for nothing",
    "keeps places for ever",
    (memory) =>
      unlessAcquired(
        memory,
        (key, id, _ttl, limit, permits, options) =>
          memory.tryAcquire(key, id, Duration.days(1), limit, permits, options)
      )
  ),

  broken(
    "S4: a client whose clock is an hour off steals nothing",
    "expires by the client's clock",
    (memory) => withExpiry(memory, Clock.currentTimeMillis, ({ since, ttl }, now) => now - since >= ttl)
  ),

  broken(
    "S4: a client whose clock is an hour off loses nothing, and keeps nothing too long",
    "expires by the clock of the client that acquired",
    (memory) => withExpiry(memory, Effect.sync(() => Date.now()), ({ since, ttl }, now) => now - since >= ttl)
  ),

  broken(
    "L2: a holder that has crashed delays a waiter by its ttl at most",
    "keeps leases much longer than asked for",
    (memory) => withTtl(memory, (ttl) => Duration.times(ttl, 100))
  )
]
