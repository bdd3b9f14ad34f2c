/** B2: the border between holders and waiters, in the one line. */
import { Effect } from "effect"
import { broken, isAcquired, unlessAcquired } from "./broken.ts"
import type { Contender, Request } from "./plain.ts"
import { Plain, wrong } from "./plain.ts"

const sum = (contenders: ReadonlyArray<Contender>) => contenders.reduce((total, { permits }) => total + permits, 0)

/** Can measure a contender beside the holders only, without the waiters. */
class Overtaking extends Plain {
  fitsBesideHolders(contender: Contender) {
    const holders = this.line.filter((other) => other.holds && other !== contender)
    return sum(holders) + contender.permits <= Math.min(...[...holders, contender].map(({ limit }) => limit))
  }
}

export const backings = [
  broken(
    "B2: a request succeeds when the permits are free, and only then",
    "never gives out the last permit",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, ...rest) => memory.tryAcquire(key, id, ttl, limit === 5 ? 4 : limit, ...rest)
    })
  ),

  broken(
    "B2: a request is measured by its own limit, even if others ask with a larger one",
    "applies the first limit that it has seen",
    (memory) => {
      const limits = new Map<string, number>()
      return {
        tryAcquire: (key, id, ttl, limit, ...rest) => {
          limits.set(key, limits.get(key) ?? limit)
          return memory.tryAcquire(key, id, ttl, limits.get(key)!, ...rest)
        }
      }
    }
  ),

  wrong(
    "B2: the smallest limit in the line counts",
    "applies to each contender its own limit only",
    class extends Plain {
      override fits(contender: Contender) {
        return sum(this.line.slice(0, this.line.indexOf(contender) + 1)) <= contender.limit
      }
    }
  ),

  wrong(
    "B2: a request with a larger limit overtakes nobody",
    "lets a request with a larger limit overtake a waiter that its own limit keeps back",
    class extends Overtaking {
      override fits(contender: Contender) {
        const [first] = this.line.filter(({ holds }) => !holds)
        return first !== undefined && first.limit < contender.limit
          ? this.fitsBesideHolders(contender)
          : super.fits(contender)
      }
    }
  ),

  wrong(
    "B2: the limit of a contender is the smallest that it asked with",
    "applies the limit with which a contender asked first",
    class extends Plain {
      override keep(own: Contender, request: Request, queue: boolean) {
        return super.keep(own, { ...request, limit: own.limit }, queue)
      }
    }
  ),

  wrong(
    "B2: a smaller limit takes no hold away, and grants no more than it allows",
    "takes a hold away when a smaller limit comes",
    class extends Plain {
      override keep(own: Contender, request: Request, queue: boolean) {
        const kept = super.keep(own, request, queue)
        for (const contender of this.line) if (contender !== own) contender.holds &&= this.fits(contender)
        return kept
      }
    }
  ),

  wrong(
    "B2: without queue, nobody overtakes the waiters",
    "lets a request without queue overtake the line",
    class extends Overtaking {
      override startOver(own: Contender | undefined, request: Request, queue: boolean) {
        if (own !== undefined || queue) return super.startOver(own, request, queue)
        const contender = this.join(request)
        if (!this.fitsBesideHolders(contender)) {
          this.remove(contender)
          return undefined
        }
        contender.holds = true
        return contender
      }
    }
  ),

  wrong(
    "B2: with queue, nobody overtakes the waiters either",
    "lets a request that joins the line overtake it",
    class extends Overtaking {
      override startOver(own: Contender | undefined, request: Request, queue: boolean) {
        const contender = super.startOver(own, request, queue)
        if (queue && contender) contender.holds ||= this.fitsBesideHolders(contender)
        return contender
      }
    }
  ),

  wrong(
    "B2: the contenders at the front that fit together hold, and those behind one that does not fit wait",
    "grants only the first in line",
    class extends Plain {
      override grant(asker?: Contender) {
        const [first] = this.line.filter(({ holds }) => !holds)
        if (first === undefined || !this.fits(first)) return
        first.holds = true
        if (first !== asker) this.notify(first)
      }
    }
  ),

  broken(
    "B2: a refused request leaves no place in line",
    "leaves a place for a refused request",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.map(
          memory.tryAcquire(key, id, ttl, limit, permits, { queue: true }),
          (answer) => !options?.queue && !isAcquired(answer) ? false : answer
        ))
  )
]
