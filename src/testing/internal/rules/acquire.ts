/** B1 and S1: one identifier, one request; and never more than the limit. */
import * as Effect from "effect/Effect"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"

export const cases = [
  backingCase(
    "B1",
    "a holder that asks for the same number of permits again succeeds, and does not count twice",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count } = semaphore(3)
        yield* acquires("a", 2)
        yield* acquires("a", 2)
        equal(yield* count, 2, "permits held")
        yield* acquires("b", 1)
        yield* acquires("a", 2)
        equal(yield* count, 3, "permits held")
      })
  ),

  leaseCase(
    "B1",
    "a holder that asks for the same number of permits again extends its lease",
    [],
    ({ expire, inTime, long, semaphore }) =>
      Effect.gen(function*() {
        const { count, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, count } = semaphore(1)
            yield* acquires("a", 1, ttl)
            yield* acquires("a", 1, long)
            return { count, ttl }
          })
        )
        yield* expire(ttl)
        equal(yield* count, 1, "permits held when the first ttl has passed")
      })
  ),

  backingCase(
    "B1",
    "a holder that asks for another number holds exactly that",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(4)
        yield* acquires("a", 1)
        yield* acquires("b", 1)
        // The old hold is given up first.
        yield* acquires("a", 3)
        equal(yield* count, 4, "permits held, after more were asked for")
        yield* acquires("a", 2)
        equal(yield* count, 3, "permits held, after fewer were asked for")
        equal(yield* releases("a", 2), 2, "permits freed")
        equal(yield* count, 1, "permits held by the other")
      })
  ),

  backingCase(
    "B1",
    "a refused request changes nothing about the hold",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, isRefused, releases } = semaphore(3)
        yield* acquires("a", 1)
        yield* acquires("b", 1)
        yield* isRefused("a", 3)
        equal(yield* count, 2, "permits held")
        yield* holds("a", 1)
        equal(yield* releases("a", 1), 1, "permits freed")
      })
  ),

  backingCase(
    "B1",
    "a refused request for another number changes nothing about the place",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, isRefused, stillWaits, waits } = semaphore(2)
        yield* acquires("a", 2)
        const { token } = yield* waits("b", 1)
        yield* waits("c", 1)
        yield* isRefused("b", 2)
        const after = yield* stillWaits("b", 1)
        equal([after.token, after.position], [token, 0], "token and position after the refused request")
      })
  ),

  leaseCase(
    "B1",
    "a waiter that asks again without queue is refused, and its place is not renewed",
    ["queue"],
    ({ expire, inTime, long, semaphore }) =>
      Effect.gen(function*() {
        const { isGone, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, isGone, isRefused, waits } = semaphore(1)
            yield* acquires("a", 1)
            yield* waits("b", 1, ttl)
            yield* isRefused("b", 1, long)
            return { isGone, ttl }
          })
        )
        yield* expire(ttl)
        yield* isGone("b", 1)
      })
  ),

  backingCase(
    "B1",
    "a waiter that asks for another number starts over: at the end of the line, with a new token",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, holds, stillWaits, waits } = semaphore(3)
        yield* acquires("a", 3)
        const before = yield* waits("b", 1)
        const other = yield* waits("c", 2)
        const after = yield* waits("b", 2)
        equal(after.position, 1, "the position")
        isTrue(after.token > other.token, `the token: ${after.token}, after ${before.token} and ${other.token}`)
        equal((yield* stillWaits("c", 2)).position, 0, "the position of the other")
        yield* releases("a", 3)
        yield* holds("c", 2)
        yield* stillWaits("b", 2)
      })
  ),

  backingCase(
    "B1",
    "a holder that asks for another number gives up its hold first, and what it leaves is granted",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, stillWaits, waits } = semaphore(3)
        const token = yield* acquires("a", 2)
        yield* waits("b", 2)
        const place = yield* waits("a", 3)
        equal(place.position, 0, "the position of the former holder")
        isTrue(place.token > token!, `the token: ${place.token}, after ${token}`)
        yield* holds("b", 2)
        equal(yield* count, 2, "permits held")
        yield* stillWaits("a", 3)
      })
  ),

  backingCase(
    "B1",
    "a holder that asks for another number overtakes nobody",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, isRefused, stillWaits, waits } = semaphore(3)
        yield* acquires("a", 2)
        const b = yield* waits("b", 3)
        // One permit does not fit behind the waiter: nothing changes.
        yield* isRefused("a", 1)
        yield* holds("a", 2)
        yield* stillWaits("b", 3)
        // Here it fits behind the waiter, and what the holder gives up is enough for both.
        const other = semaphore(3)
        yield* other.acquires("a", 2)
        const next = yield* other.waits("b", 2)
        const token = yield* other.acquires("a", 1)
        isTrue(token! > next.token, `the token: ${token}, behind ${next.token}`)
        yield* other.holds("b", 2)
        equal([yield* count, yield* other.count], [2, 3], `permits held, with ${b.token} in line`)
      })
  ),

  backingCase(
    "B1",
    "a waiter that lowers its number behind one that does not fit starts over, and is granted when it fits",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases, waits } = semaphore(3)
        yield* acquires("a", 2)
        yield* waits("b", 3)
        const before = yield* waits("c", 2)
        const after = yield* waits("c", 1)
        equal(after.position, 1, "the position")
        isTrue(after.token > before.token, `the token: ${after.token}, after ${before.token}`)
        yield* releases("b", 3)
        equal(yield* count, 3, "permits held when nobody is ahead")
        equal(yield* holds("c", 1), after.token, "the token of the hold")
      })
  ),

  backingCase("S1", "together, holders never have more than the limit", [], ({ semaphore }) =>
    Effect.gen(function*() {
      const { count, key } = semaphore(3)
      let held = 0
      for (const id of ["a", "b", "c", "d", "e"]) {
        const one = semaphore(3, key)
        const acquired = yield* Effect.exit(one.acquires(id, 1))
        if (acquired._tag === "Success") held++
      }
      equal(held, 3, "how many of five got one of three permits")
      equal(yield* count, 3, "permits held")
    })),

  backingCase(
    "S1",
    "one request for more than is free gets nothing",
    [],
    ({ processes, long, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, key } = semaphore(1_000_000)
        yield* acquires("a", 999_999)
        const answer = yield* processes[0]!.tryAcquire(key, "b", long, 1_000_000, 2)
        isTrue(answer === false, "two permits were given where one is free")
        yield* acquires("c", 1)
        equal(yield* count, 1_000_000, "permits held")
      })
  )
]
