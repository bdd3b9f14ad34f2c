/** B5: keeping a lease alive. */
import { Duration, Effect } from "effect"
import { acquired, broken, holdOf, isAcquired } from "./broken.ts"

export const backings = [
  broken("B5: extends the lease", "does not extend the lease on refresh", (memory) => ({
    refresh: (key, id) =>
      Effect.map(holdOf(memory, key, id), (hold) => hold !== undefined && acquired(hold.fencingToken))
  })),

  broken(
    "B5: the lease lasts ttl from the refresh, even if it would have lasted longer",
    "never shortens a lease",
    (memory) => ({
      refresh: (key, id, ttl, limit, permits) =>
        Effect.flatMap(
          holdOf(memory, key, id),
          (hold) => memory.refresh(key, id, hold ? Duration.max(hold.remaining, ttl) : ttl, limit, permits)
        )
    })
  ),

  broken("B5: leaves the number of permits alone", "sets the number of permits on refresh", (memory) => ({
    refresh: (key, id, ttl, limit, permits) =>
      Effect.flatMap(
        holdOf(memory, key, id),
        (hold) => hold ? Effect.map(memory.tryAcquire(key, id, ttl, limit, permits), isAcquired) : Effect.succeed(false)
      )
  })),

  broken("B5: creates nothing: false for one who never held, or has released", "acquires on refresh", (memory) => ({
    refresh: (key, id, ttl, limit, permits) =>
      Effect.flatMap(memory.refresh(key, id, ttl, limit, permits), (answer) =>
        answer === false
          ? Effect.map(memory.tryAcquire(key, id, ttl, limit, permits), (again) => isAcquired(again) && again)
          : Effect.succeed(answer))
  })),

  broken("B5: resurrects nothing: false for a hold that has expired", "resurrects on refresh", (memory) => {
    const expired = new Set<string>()
    const nameOf = (key: string, id: string) => JSON.stringify([key, id])
    return {
      tryAcquire: (key, id, ...rest) =>
        Effect.tap(
          memory.tryAcquire(key, id, ...rest),
          (answer) => Effect.sync(() => isAcquired(answer) && expired.add(nameOf(key, id)))
        ),
      release: (key, id, permits) => {
        expired.delete(nameOf(key, id))
        return memory.release(key, id, permits)
      },
      refresh: (key, id, ttl, limit, permits) =>
        Effect.flatMap(
          memory.refresh(key, id, ttl, limit, permits),
          (answer) =>
            answer === false && expired.has(nameOf(key, id))
              ? Effect.map(memory.tryAcquire(key, id, ttl, limit, permits), (again) => isAcquired(again) && again)
              : Effect.succeed(answer)
        )
    }
  })
]
