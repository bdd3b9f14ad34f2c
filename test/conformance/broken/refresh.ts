/** B5: keeping a lease alive. */
import { Duration, Effect } from "effect"
import { acquired, broken, holdOf, isAcquired } from "./broken.ts"
import type { Contender } from "./plain.ts"
import { Plain, wrong } from "./plain.ts"

export const backings = [
  broken("B5: a refresh extends the lease", "does not extend the lease on refresh", (memory) => ({
    refresh: (key, id, ...rest) =>
      Effect.flatMap(
        holdOf(memory, key, id),
        (hold) => hold ? Effect.succeed(acquired(hold.fencingToken)) : memory.refresh(key, id, ...rest)
      )
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

  broken("B5: a refresh leaves the number of permits alone", "sets the number of permits on refresh", (memory) => ({
    refresh: (key, id, ttl, limit, permits) =>
      Effect.flatMap(
        holdOf(memory, key, id),
        (hold) => hold ? memory.tryAcquire(key, id, ttl, limit, permits) : memory.refresh(key, id, ttl, limit, permits)
      )
  })),

  broken(
    "B5: the answer to a refresh says how many permits are held, if these are fewer than it asks for",
    "does not compare the number of permits on refresh",
    (memory) => ({
      refresh: (...args) =>
        Effect.map(
          memory.refresh(...args),
          (answer) => isAcquired(answer) ? { ...answer, permits: undefined } : answer
        )
    })
  ),

  broken(
    "B5: a refresh creates nothing: it answers false for a holder that never held, or has released",
    "acquires on refresh",
    (memory) => ({
      refresh: (key, id, ttl, limit, permits) =>
        Effect.flatMap(memory.refresh(key, id, ttl, limit, permits), (answer) =>
          answer === false
            ? memory.tryAcquire(key, id, ttl, limit, permits)
            : Effect.succeed(answer))
    })
  ),

  broken(
    "B5: a refresh resurrects no hold: it answers false for one that has expired",
    "resurrects on refresh",
    (memory) => {
      const expired = new Set<string>()
      const nameOf = (key: string, id: string) => JSON.stringify([key, id])
      return {
        tryAcquire: (key, id, ...rest) =>
          Effect.tap(
            memory.tryAcquire(key, id, ...rest),
            (answer) => Effect.sync(() => isAcquired(answer) && expired.add(nameOf(key, id)))
          ),
        release: (key, id, ...rest) => {
          expired.delete(nameOf(key, id))
          return memory.release(key, id, ...rest)
        },
        refresh: (key, id, ttl, limit, permits) =>
          Effect.flatMap(
            memory.refresh(key, id, ttl, limit, permits),
            (answer) =>
              answer === false && expired.has(nameOf(key, id))
                ? memory.tryAcquire(key, id, ttl, limit, permits)
                : Effect.succeed(answer)
          )
      }
    }
  ),

  wrong(
    "B5: a refresh renews a place, and answers that it is one",
    "does not renew a place that is refreshed",
    class extends Plain {
      override refresh(id: string, expiry: bigint, token?: bigint) {
        const own = this.find(id, token)
        return own?.holds ? super.refresh(id, expiry, token) : own
      }
    }
  ),

  broken(
    "B5: a refresh renews a place, and answers that it is one",
    "answers false for a place that is refreshed",
    (memory) => ({
      refresh: (...args) => Effect.map(memory.refresh(...args), (answer) => isAcquired(answer) && answer)
    })
  ),

  broken(
    "B5: a refresh does not change the number of permits that a waiter wants",
    "sets the number of permits of a waiter on refresh",
    (memory) => ({
      refresh: (key, id, ttl, limit, permits, options) =>
        Effect.flatMap(
          memory.refresh(key, id, ttl, limit, permits, options),
          (answer) =>
            typeof answer === "object" && answer._tag === "Waiting"
              ? memory.tryAcquire(key, id, ttl, limit, permits, { queue: true })
              : Effect.succeed(answer)
        )
    })
  ),

  wrong(
    "B5: a refresh resurrects no place: it answers false for one that has expired or was given up",
    "resurrects the last place that has expired",
    class extends Plain {
      private expired: ReadonlyArray<Contender> = []
      override expire(now: bigint) {
        const places = this.line.filter(({ expiry, holds }) => !holds && expiry <= now)
        if (places.length > 0) this.expired = places
        super.expire(now)
      }
      override refresh(id: string, expiry: bigint, token?: bigint) {
        const place = this.expired.find((one) => one.id === id)
        if (place && !this.find(id)) this.line.push(place)
        return super.refresh(id, expiry, token)
      }
    }
  ),

  wrong(
    "B5: a refresh with an old token extends no newer hold",
    "ignores the token when it extends a hold",
    class extends Plain {
      override refresh(id: string, expiry: bigint, token?: bigint) {
        const answered = super.refresh(id, expiry, token)
        if (this.find(id)?.holds) super.refresh(id, expiry)
        return answered
      }
    }
  ),

  wrong(
    "B5: a refresh with an old token renews no newer place",
    "ignores the token when it renews a place",
    class extends Plain {
      override refresh(id: string, expiry: bigint, token?: bigint) {
        const answered = super.refresh(id, expiry, token)
        if (this.find(id)?.holds === false) super.refresh(id, expiry)
        return answered
      }
    }
  ),

  broken(
    "B5: a refresh with the token of a hold or a place extends it",
    "takes every token for an old one",
    (memory) => ({
      refresh: (key, id, ttl, limit, permits, options) =>
        options?.fencingToken === undefined ? memory.refresh(key, id, ttl, limit, permits) : Effect.succeed(false)
    })
  ),

  broken(
    "B5: refreshAll answers in order, for any keys, what single refreshes would answer",
    "answers first for the holders that it knows",
    (memory) => ({
      refreshAll: (requests) =>
        Effect.map(
          memory.refreshAll!(requests),
          (answers) => [
            ...answers.filter((answer) => answer !== false),
            ...answers.filter((answer) => answer === false)
          ]
        )
    })
  ),

  broken("B5: refreshAll extends every hold and every place", "extends the first of many only", (memory) => ({
    refreshAll: (requests) =>
      Effect.andThen(
        memory.refreshAll!(requests.slice(0, 1)),
        memory.refreshAll!(requests.map((request) => ({ ...request, ttl: Duration.millis(50) })))
      )
  }))
]
