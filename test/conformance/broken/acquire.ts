/** B1 and S1: one identifier, one request; and never more than the limit. */
import { Effect } from "effect"
import { acquired, broken, holdOf, lineOf, unlessAcquired } from "./broken.ts"
import type { Contender, Request } from "./plain.ts"
import { Plain, wrong } from "./plain.ts"

export const backings = [
  broken(
    "B1: a holder that asks for the same number of permits again succeeds, and does not count twice",
    "counts a retry twice",
    (memory) => {
      let copies = 0
      return {
        tryAcquire: (key, id, ...rest) =>
          Effect.flatMap(
            holdOf(memory, key, id),
            (hold) => memory.tryAcquire(key, hold === undefined ? id : `${id} ${copies++}`, ...rest)
          )
      }
    }
  ),

  broken(
    "B1: a holder that asks for the same number of permits again extends its lease",
    "does not extend the lease of a retry",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        Effect.flatMap(holdOf(memory, key, id), (hold) =>
          hold?.permits === permits
            ? Effect.succeed(acquired(hold.fencingToken))
            : memory.tryAcquire(key, id, ttl, limit, permits, options))
    })
  ),

  broken(
    "B1: a holder that asks for another number holds exactly that",
    "adds what is asked for to what is held",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        Effect.flatMap(holdOf(memory, key, id), (hold) =>
          hold === undefined || hold.permits === permits
            ? memory.tryAcquire(key, id, ttl, limit, permits, options)
            : memory.tryAcquire(key, id, ttl, limit, hold.permits + permits, options))
    })
  ),

  broken(
    "B1: a refused request changes nothing about the hold",
    "gives up the hold for a refused request",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.andThen(
          options?.queue
            ? Effect.void
            : Effect.flatMap(
              holdOf(memory, key, id),
              (hold) => hold ? memory.release(key, id, hold.permits) : Effect.void
            ),
          memory.tryAcquire(key, id, ttl, limit, permits, options)
        ))
  ),

  broken(
    "B1: a refused request for another number changes nothing about the place",
    "gives up the place for a refused request",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.gen(function*() {
          const place = (yield* lineOf(memory, key)).find(({ identifier }) => identifier === id)
          if (place && place.permits !== permits && !options?.queue) yield* memory.release(key, id, permits)
          return yield* memory.tryAcquire(key, id, ttl, limit, permits, options)
        }))
  ),

  wrong(
    "B1: a waiter that asks again without queue is refused, and its place is not renewed",
    "renews the place of a waiter that it refuses",
    class extends Plain {
      override keep(own: Contender, request: Request, queue: boolean) {
        const kept = super.keep(own, request, true)
        return queue || own.holds ? kept : undefined
      }
    }
  ),

  wrong(
    "B1: a waiter that asks for another number starts over: at the end of the line, with a new token",
    "changes the number of permits of a place where it stands",
    class extends Plain {
      override startOver(own: Contender | undefined, request: Request, queue: boolean) {
        if (own === undefined || own.holds || !queue) return super.startOver(own, request, queue)
        Object.assign(own, request)
        this.grant(own)
        return own
      }
    }
  ),

  wrong(
    "B1: a holder that asks for another number gives up its hold first, and what it leaves is granted",
    "keeps the hold while it has a place for another number",
    class extends Plain {
      private startsOver = false
      override remove(contender: Contender) {
        if (!this.startsOver || !contender.holds) super.remove(contender)
      }
      override startOver(own: Contender | undefined, request: Request, queue: boolean) {
        this.startsOver = queue
        const contender = super.startOver(own, request, queue)
        this.startsOver = false
        return contender
      }
    }
  ),

  wrong(
    "B1: a holder that asks for another number overtakes nobody",
    "makes a hold smaller where it stands",
    class extends Plain {
      override startOver(own: Contender | undefined, request: Request, queue: boolean) {
        if (!own?.holds || own.permits < request.permits) return super.startOver(own, request, queue)
        Object.assign(own, request, { token: this.nextToken() })
        this.grant(own)
        return own
      }
    }
  ),

  wrong(
    "B1: a waiter that lowers its number behind one that does not fit starts over, and is granted when it fits",
    "still counts the larger number of a waiter that lowered it",
    class extends Plain {
      override startOver(own: Contender | undefined, request: Request, queue: boolean) {
        const permits = own && !own.holds ? Math.max(own.permits, request.permits) : request.permits
        return super.startOver(own, { ...request, permits }, queue)
      }
    }
  ),

  broken("S1: together, holders never have more than the limit", "ignores the limit", (memory) => ({
    tryAcquire: (key, id, ttl, _limit, ...rest) => memory.tryAcquire(key, id, ttl, Number.MAX_SAFE_INTEGER, ...rest)
  })),

  wrong(
    "S1: one request for more than is free gets nothing",
    "lets the last request overdraw",
    class extends Plain {
      override fits(contender: Contender) {
        const others = this.line.filter(({ holds }) => holds)
        return others.reduce((sum, { permits }) => sum + permits, 0) < contender.limit
      }
    }
  )
]
