/** B3: the line. */
import { Duration, Effect } from "effect"
import { broken } from "./broken.ts"
import type { Contender, Request } from "./plain.ts"
import { Plain, wrong } from "./plain.ts"

export const backings = [
  wrong(
    "B3: a request that does not fit joins the end of the line, and keeps its place when it is repeated",
    "sends a waiter that asks again to the end of the line",
    class extends Plain {
      override keep(own: Contender, request: Request, queue: boolean) {
        return own.holds || !queue ? super.keep(own, request, queue) : this.startOver(own, request, queue)
      }
    }
  ),

  wrong(
    "B3: positions move up when someone ahead is granted or leaves",
    "answers with the position at which the waiter joined",
    class extends Plain {
      private readonly positions = new Map<bigint, number>()
      override answer(contender: Contender, asked: number, ttl: bigint, now: bigint) {
        const answer = super.answer(contender, asked, ttl, now)
        if (answer._tag === "Acquired") return answer
        const position = this.positions.get(contender.token) ?? answer.position
        this.positions.set(contender.token, position)
        return { ...answer, position }
      }
    }
  ),

  wrong(
    "B3: a waiter that leaves and comes again stands at the end, with a new token",
    "gives a waiter that comes again its former place",
    class extends Plain {
      private readonly left = new Map<string, bigint>()
      override remove(contender: Contender) {
        if (!contender.holds) this.left.set(contender.id, contender.token)
        super.remove(contender)
      }
      override join(request: Request) {
        const contender = super.join(request)
        contender.token = this.left.get(request.id) ?? contender.token
        this.line.sort((a, b) => Number(a.token - b.token))
        return contender
      }
    }
  ),

  wrong(
    "B3: asking again with queue renews the place",
    "does not renew places",
    class extends Plain {
      override keep(own: Contender, request: Request, queue: boolean) {
        return super.keep(own, { ...request, expiry: own.holds ? request.expiry : own.expiry }, queue)
      }
    }
  ),

  broken(
    "B3: retryAfter is 1 s at most for the first in line, and a third of the ttl for the others",
    "says that nobody need refresh within the hour",
    (memory) => ({
      tryAcquire: (...args) =>
        Effect.map(
          memory.tryAcquire(...args),
          (answer) =>
            typeof answer === "object" && answer._tag === "Waiting"
              ? { ...answer, retryAfter: Duration.hours(1) }
              : answer
        )
    })
  ),

  wrong(
    "B3: retryAfter ends with the hold or the place that is in the way",
    "ignores the ends of leases in retryAfter",
    class extends Plain {
      override retryAfter(position: number, ttl: bigint) {
        return position === 0 ? 1_000_000_000n : ttl / 3n
      }
    }
  ),

  broken(
    "B3: retryAfter comes with notifications only, and is positive",
    "gives retryAfter, but does not notify",
    () => ({}),
    {
      capabilities: ["queue", "inspect", "partialRelease"]
    }
  )
]
