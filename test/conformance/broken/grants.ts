/** B4, B6 and B11: the store grants, in the step that frees the permits. */
import type { Contender, Request } from "./plain.ts"
import { Plain, wrong } from "./plain.ts"

export const backings = [
  wrong(
    "B4: a release grants: the waiter counts as holder right after it",
    "only notifies the waiter that it may ask again",
    class extends Plain {
      override grant(asker?: Contender) {
        for (const contender of this.line) {
          if (contender.holds || !this.fits(contender)) continue
          if (contender === asker) contender.holds = true
          else this.notify(contender)
        }
      }
      override keep(own: Contender, request: Request, queue: boolean) {
        this.grant(own)
        return super.keep(own, request, queue)
      }
    }
  ),

  wrong(
    "B4: a release grants: inspect shows the waiter among the holders right after it",
    "shows a granted hold only when its holder knows of it",
    class extends Plain {
      private readonly known = new Set<bigint>()
      override answer(contender: Contender, asked: number, ttl: bigint, now: bigint) {
        if (contender.holds) this.known.add(contender.token)
        return super.answer(contender, asked, ttl, now)
      }
      override shown(now: bigint) {
        return super.shown(now).map((one) => ({ ...one, holds: one.holds && this.known.has(one.token) }))
      }
    }
  ),

  wrong(
    "B4: a part of a hold that is given up is granted",
    "grants only what a whole hold leaves",
    class extends Plain {
      override release(id: string, permits: number, token?: bigint) {
        const own = this.find(id, token)
        if (!own?.holds || own.permits <= permits) return super.release(id, permits, token)
        own.permits -= permits
        return permits
      }
    }
  ),

  wrong(
    "B4: when a waiter leaves, those behind it that fit now are granted",
    "grants nothing when a waiter leaves",
    class extends Plain {
      override release(id: string, permits: number, token?: bigint) {
        const own = this.find(id, token)
        if (own === undefined || own.holds) return super.release(id, permits, token)
        this.remove(own)
        return 0
      }
    }
  ),

  wrong(
    "B11: a grant has the token that the waiter was answered",
    "issues a new token with the grant",
    class extends Plain {
      override grant(asker?: Contender) {
        for (const contender of this.line) {
          if (contender.holds || !this.fits(contender)) continue
          contender.holds = true
          if (contender === asker) continue
          this.notify(contender)
          contender.token = this.nextToken()
        }
      }
    }
  ),

  wrong(
    "B6: a granted hold expires no later than its place would have",
    "begins the lease of a hold when it is granted",
    class extends Plain {
      override grant(asker?: Contender) {
        const waiters = this.line.filter(({ holds }) => !holds)
        super.grant(asker)
        for (const waiter of waiters) if (waiter.holds && waiter !== asker) waiter.expiry += 30_000_000n
      }
    }
  ),

  wrong(
    "B6: a granted hold expires no earlier than its place would have",
    "gives a granted hold what was left of the lease before it",
    class extends Plain {
      override release(id: string, permits: number, token?: bigint) {
        const own = this.find(id, token)
        const waiters = this.line.filter(({ holds }) => !holds)
        const freed = super.release(id, permits, token)
        for (const waiter of waiters) {
          if (own?.holds && waiter.holds && own.expiry < waiter.expiry) waiter.expiry = own.expiry
        }
        return freed
      }
    }
  ),

  wrong(
    "B6: the next operation, by whichever contender, grants what an expired hold leaves",
    "grants what an expired hold leaves only to a contender that asks",
    class extends Plain {
      override expire(now: bigint) {
        this.line = this.line.filter(({ expiry, holds }) => !holds || expiry > now)
        super.expire(now)
      }
      override answer(contender: Contender, asked: number, ttl: bigint, now: bigint) {
        this.grant(contender)
        return super.answer(contender, asked, ttl, now)
      }
      override release(id: string, permits: number, token?: bigint) {
        return this.find(id, token) ? super.release(id, permits, token) : 0
      }
    }
  ),

  wrong(
    "B6: the next operation, by whichever contender, grants what an expired place leaves",
    "grants nothing when a place has expired",
    class extends Plain {
      override expire(now: bigint) {
        this.line = this.line.filter(({ expiry, holds }) => holds || expiry > now)
        super.expire(now)
      }
    }
  )
]
