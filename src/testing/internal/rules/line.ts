/** B3 and L1: the line. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Waiting } from "../../../core/Backing.ts"
import { DistributedSemaphoreBacking } from "../../../core/Backing.ts"
import * as DistributedSemaphore from "../../../core/DistributedSemaphore.ts"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal, isTrue, show } from "../assert.ts"

export const cases = [
  backingCase(
    "B3",
    "a request that does not fit joins the end of the line, and keeps its place when it is repeated",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, waits } = semaphore(1)
        yield* acquires("a", 1)
        const ids = ["b", "c", "d", "b", "d", "c"]
        const places = yield* Effect.forEach(ids, (id) => waits(id, 1))
        equal(places.map(({ position }) => position), [0, 1, 2, 0, 2, 1], `positions of ${show(ids)}`)
        const [b, c, d, ...again] = places.map(({ token }) => token)
        equal(again, [b, d, c], "tokens when asked again")
      })
  ),

  backingCase(
    "B3",
    "positions move up when someone ahead is granted or leaves",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, waits } = semaphore(1)
        yield* acquires("a", 1)
        for (const id of ["b", "c", "d", "e"]) yield* waits(id, 1)
        yield* releases("c", 1)
        equal((yield* waits("e", 1)).position, 2, "the position of the last when one ahead has left")
        yield* releases("a", 1)
        equal((yield* waits("e", 1)).position, 1, "the position of the last when the first was granted")
      })
  ),

  backingCase(
    "B3",
    "a waiter that leaves and comes again stands at the end, with a new token",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* waits("b", 1)
        const other = yield* waits("c", 1)
        yield* releases("b", 1)
        const again = yield* waits("b", 1)
        equal(again.position, 1, "the position")
        isTrue(again.token > other.token, `the token: ${again.token}, behind ${other.token}`)
      })
  ),

  leaseCase(
    "B3",
    "asking again with queue renews the place",
    ["queue"],
    ({ expire, inTime, long, semaphore }) =>
      Effect.gen(function*() {
        const { stillWaits, token, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, stillWaits, waits } = semaphore(1)
            yield* acquires("a", 1)
            yield* waits("b", 1, ttl)
            const { token } = yield* waits("b", 1, long)
            return { stillWaits, token, ttl }
          })
        )
        yield* expire(ttl)
        equal((yield* stillWaits("b", 1)).token, token, "the token when the first ttl has passed")
      })
  ),

  backingCase(
    "B3",
    "retryAfter comes with notifications only, and is positive",
    ["queue"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key, waits } = subject.semaphore(1)
        yield* acquires("a", 1)
        if (!subject.options.has("push")) {
          equal((yield* waits("b", 1)).retryAfter, undefined, "retryAfter of a backing that does not notify")
          return
        }
        yield* subject.listen(key, "b")
        const { retryAfter } = yield* waits("b", 1)
        isTrue(retryAfter !== undefined && Duration.toMillis(retryAfter) > 0, `retryAfter: got ${show(retryAfter)}`)
      })
  ),

  backingCase(
    "B3",
    "retryAfter is 1 s at most for the first in line, and a third of the ttl for the others",
    ["queue", "push"],
    ({ listen, long, options, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* listen(key, "b", "c")
        const atMost = (waiting: Waiting, bound: Duration.Duration, who: string) =>
          isTrue(
            Duration.isLessThanOrEqualTo(waiting.retryAfter!, Duration.sum(bound, options.granularity)),
            `retryAfter of ${who}: ${Duration.format(waiting.retryAfter!)} is more than ${Duration.format(bound)}`
          )
        atMost(yield* waits("b", 1), Duration.seconds(1), "the first in line")
        atMost(yield* waits("c", 1), Duration.divideUnsafe(long, 3), "the second")
      })
  ),

  backingCase(
    "B3",
    "retryAfter ends with the hold or the place that is in the way",
    ["queue", "push"],
    ({ inTime, listen, options, semaphore }) =>
      Effect.forEach(["hold", "place"], (inTheWay) =>
        inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, key, waits } = semaphore(2)
            yield* listen(key, "b", "c")
            yield* acquires("a", 1, inTheWay === "hold" ? ttl : undefined)
            const first = yield* waits("b", 2, inTheWay === "place" ? ttl : undefined)
            const second = yield* waits("c", 1)
            const latest = Duration.sum(ttl, options.granularity)
            for (const { position, retryAfter } of inTheWay === "hold" ? [first, second] : [second]) {
              isTrue(
                Duration.isLessThanOrEqualTo(retryAfter!, latest),
                `a ${inTheWay} in the way expires within ${
                  Duration.format(latest)
                }, retryAfter at position ${position} is ${Duration.format(retryAfter!)}`
              )
            }
          }).pipe(Effect.scoped)
        ), { discard: true })
  ),

  backingCase(
    "L1",
    "permits are granted in order, whatever number each wants",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, releases, stillWaits, waits } = semaphore(3)
        yield* acquires("a", 3)
        const line = [["b", 1], ["c", 3], ["d", 2], ["e", 2]] as const
        for (const [id, permits] of line) yield* waits(id, permits)
        let last: readonly [id: string, permits: number] = ["a", 3]
        for (const [index, [id, permits]] of line.entries()) {
          yield* releases(...last)
          yield* holds(id, permits)
          for (const [later, wanted] of line.slice(index + 1)) yield* stillWaits(later, wanted)
          last = [id, permits]
        }
      })
  ),

  backingCase(
    "L1",
    "a large request is not starved by small ones",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, isRefused, releases, stillWaits, waits } = semaphore(3)
        for (const id of ["a", "b", "c"]) yield* acquires(id, 1)
        yield* waits("all", 3)
        for (const id of ["a", "b"]) {
          yield* releases(id, 1)
          yield* isRefused(`${id} again`, 1)
          yield* waits(`${id} later`, 1)
          yield* stillWaits("all", 3)
        }
        yield* releases("c", 1)
        yield* holds("all", 3)
      })
  ),

  backingCase(
    "L1",
    "through the semaphore: waiters of several processes acquire in the order in which they began to wait",
    ["queue", "inspect"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, inspect, key, releases } = subject.semaphore(1)
        yield* acquires("holder", 1)
        const ids = Array.from({ length: 20 }, (_, index) => `waiter ${index}`)
        const order: Array<string> = []
        for (const [index, identifier] of ids.entries()) {
          const waiter = Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make(key, {
              ttl: subject.long,
              acquireRetryInterval: "5 millis"
            })
            yield* semaphore.withPermits(1, { identifier })(Effect.sync(() => order.push(identifier)))
          })
          yield* Effect.forkScoped(
            Effect.provideService(waiter, DistributedSemaphoreBacking, subject.processOf(identifier)),
            { startImmediately: true }
          )
          yield* subject.eventually(
            `${identifier} is in line`,
            Effect.map(inspect, ({ line }) => line.length === index + 1)
          )
        }
        yield* releases("holder", 1)
        yield* subject.eventually("all have acquired", () => order.length === ids.length)
        equal(order, ids, "the order in which they acquired")
      })
  )
]
