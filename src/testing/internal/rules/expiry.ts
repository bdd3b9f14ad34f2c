/** B6: expiry, by the ttl of each hold and place. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { leaseCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"
import { now } from "../subject.ts"

export const cases = [
  leaseCase(
    "B6",
    "a hold that has expired counts for nothing",
    [],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(3)
        yield* acquires("a", 2, short)
        yield* acquires("b", 1)
        yield* expire(short)
        equal(yield* count, 1, "permits held")
        equal(yield* releases("a", 2), 0, "permits freed by the one whose hold has expired")
        yield* acquires("c", 2)
        equal(yield* count, 3, "permits held")
      })
  ),

  leaseCase(
    "B6",
    "a hold that has expired is not shown",
    ["inspect"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, inspect } = semaphore(2)
        yield* acquires("a", 1, short)
        yield* acquires("b", 1)
        yield* expire(short)
        const { holders } = yield* inspect
        equal(holders.map(({ identifier }) => identifier), ["b"], "holders")
      })
  ),

  leaseCase(
    "B6",
    "an expired hold is acquired anew, not extended",
    [],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, isRefused } = semaphore(1)
        yield* acquires("a", 1, short)
        yield* expire(short)
        yield* acquires("b", 1)
        yield* isRefused("a", 1)
        equal(yield* count, 1, "permits held")
      })
  ),

  leaseCase(
    "B6",
    "a hold does not expire before its ttl",
    [],
    ({ eventually, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count } = semaphore(1)
        const start = yield* now
        yield* acquires("a", 1, short)
        yield* eventually("the hold expires", Effect.map(count, (held) => held === 0))
        const lasted = Duration.nanos((yield* now) - start)
        isTrue(
          Duration.isGreaterThanOrEqualTo(lasted, short),
          `a hold with a ttl of ${Duration.format(short)} was gone after ${Duration.format(lasted)}`
        )
      })
  ),

  leaseCase(
    "B6",
    "a caller with a short ttl does not shorten another's lease",
    [],
    ({ expire, inTime, processes, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, isRefused, key, releases } = semaphore(2)
        yield* acquires("a", 1)
        yield* expire(short)
        const ttl = yield* inTime((ttl) =>
          Effect.gen(function*() {
            yield* releases("b", 1)
            yield* releases("c", 1)
            yield* acquires("b", 1, ttl)
            yield* isRefused("c", 1, ttl)
            equal(yield* processes[0]!.getCount(key, short), 2, "permits held, asked for with a short ttl")
            return ttl
          })
        )
        yield* expire(ttl)
        equal(yield* count, 1, "permits held")
        yield* holds("a", 1)
      })
  ),

  leaseCase(
    "B6",
    "a caller with a long ttl does not lengthen another's lease",
    [],
    ({ expire, long, processes, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, key } = semaphore(1)
        yield* acquires("a", 1, short)
        yield* expire(short)
        equal(yield* processes[0]!.getCount(key, long), 0, "permits held, asked for with a long ttl")
        yield* acquires("b", 1, long)
      })
  ),

  leaseCase(
    "B6",
    "a place that has expired counts for nothing",
    ["queue"],
    ({ expire, inTime, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, ttl, waits } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const one = semaphore(2)
            yield* one.acquires("a", 1)
            yield* one.waits("b", 2, ttl)
            yield* one.isRefused("c", 1)
            return { ...one, ttl }
          })
        )
        yield* expire(ttl)
        equal((yield* waits("d", 2)).position, 0, "the position behind a place that has expired")
        equal(yield* releases("d", 2), 0, "permits freed")
        yield* acquires("c", 1)
      })
  ),

  leaseCase(
    "B6",
    "each place keeps its own ttl",
    ["queue"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* waits("b", 1)
        yield* waits("c", 1, short)
        yield* expire(short)
        equal((yield* waits("d", 1, short)).position, 1, "the position")
      })
  )
]
