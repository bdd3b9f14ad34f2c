/** B3 and L1: the line. */
import { Duration, Effect } from "effect"
import type { Waiting } from "../../../../../src/core/Backing.ts"
import { DistributedSemaphoreBacking } from "../../../../../src/core/Backing.ts"
import * as DistributedSemaphore from "../../../../../src/core/DistributedSemaphore.ts"
import { backingCase } from "../../BackingCase.ts"
import { equal, isTrue, show } from "../assert.ts"

const position = Effect.map((waiting: Waiting) => waiting.position)

export const cases = [
  backingCase(
    "B3",
    "who can't go joins the end of the line, and keeps its place",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, waits } = semaphore(1)
        yield* acquires("a", 1)
        const ids = ["b", "c", "d", "b", "d", "c"]
        const positions = yield* Effect.forEach(ids, (id) => position(waits(id, 1)))
        equal(positions, [0, 1, 2, 0, 2, 1], `positions of ${show(ids)}`)
      })
  ),

  backingCase("B3", "who wants another number keeps its place", ["queue"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, isRefused, releases, waits } = semaphore(3)
      yield* acquires("a", 3)
      yield* waits("b", 1)
      yield* waits("c", 1)
      equal(yield* position(waits("b", 3)), 0, "the position")
      yield* releases("a", 3)
      // The place counts with its new number.
      yield* isRefused("c", 1)
      yield* acquires("b", 3)
    })),

  backingCase(
    "B3",
    "positions move up when someone ahead goes or leaves",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, waits } = semaphore(1)
        yield* acquires("a", 1)
        for (const id of ["b", "c", "d", "e"]) yield* waits(id, 1)
        yield* releases("c", 1)
        equal(yield* position(waits("e", 1)), 2, "the position of the last when one ahead has left")
        yield* releases("a", 1)
        yield* acquires("b", 1)
        equal(yield* position(waits("e", 1)), 1, "the position of the last when the first has gone")
      })
  ),

  backingCase("B3", "who goes leaves the line", ["queue"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, releases, waits } = semaphore(1)
      yield* acquires("a", 1)
      yield* waits("b", 1)
      yield* releases("a", 1)
      yield* acquires("b", 1)
      equal(yield* position(waits("c", 1)), 0, "the position of the next")
      yield* releases("b", 1)
      yield* acquires("c", 1)
    })),

  backingCase(
    "B3",
    "who leaves and comes again stands at the end",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* waits("b", 1)
        yield* waits("c", 1)
        yield* releases("b", 1)
        equal(yield* position(waits("b", 1)), 1, "the position")
      })
  ),

  backingCase(
    "B3",
    "asking with queue renews the place",
    ["queue"],
    ({ expire, inTime, long, semaphore }) =>
      Effect.gen(function*() {
        const { isRefused, releases, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, isRefused, releases, waits } = semaphore(1)
            yield* acquires("a", 1)
            yield* waits("b", 1, ttl)
            yield* waits("b", 1, long)
            return { isRefused, releases, ttl }
          })
        )
        yield* expire(ttl)
        yield* releases("a", 1)
        yield* isRefused("c", 1)
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
    "retryAfter ends with the lease that is in the way, or with the place",
    ["queue", "push"],
    ({ expire, listen, options, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, key, waits } = semaphore(1)
        yield* listen(key, "b", "c")
        const latest = Duration.sum(short, options.granularity)
        const endsInTime = ({ retryAfter }: Waiting, what: string) =>
          isTrue(
            Duration.isLessThanOrEqualTo(retryAfter!, latest),
            `${what} expires within ${Duration.format(latest)}, retryAfter is ${Duration.format(retryAfter!)}`
          )
        yield* acquires("a", 1, short)
        endsInTime(yield* waits("b", 1), "the hold in the way")
        yield* expire(short)
        yield* acquires("b", 1)
        yield* waits("c", 1, short)
        endsInTime(yield* waits("d", 1), "the place ahead")

        const both = semaphore(2)
        yield* listen(both.key, "b", "c")
        yield* both.acquires("a", 2, short)
        yield* both.waits("b", 1)
        endsInTime(yield* both.waits("c", 1), "the hold in the way of both who wait")
      })
  ),

  backingCase(
    "L1",
    "permits go in order, whatever number each wants",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, isRefused, releases, waits } = semaphore(3)
        yield* acquires("a", 3)
        const line = [["b", 1], ["c", 3], ["d", 2], ["e", 2]] as const
        for (const [id, permits] of line) yield* waits(id, permits)
        let last: readonly [id: string, permits: number] = ["a", 3]
        for (const [index, [id, permits]] of line.entries()) {
          yield* releases(...last)
          for (const [later, wanted] of line.slice(index + 1)) yield* isRefused(later, wanted)
          yield* acquires(id, permits)
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
        const { acquires, isRefused, releases, waits } = semaphore(3)
        for (const id of ["a", "b", "c"]) yield* acquires(id, 1)
        yield* waits("all", 3)
        for (const id of ["a", "b", "c"]) {
          yield* releases(id, 1)
          if (id === "c") break
          yield* isRefused(`${id} again`, 1)
          yield* waits(`${id} later`, 1)
        }
        yield* acquires("all", 3)
      })
  ),

  backingCase(
    "L1",
    "through the semaphore: waiters of several processes go in the order in which they began to wait",
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
        yield* subject.eventually("all have had their turn", () => order.length === ids.length)
        equal(order, ids, "the order of turns")
      })
  )
]
