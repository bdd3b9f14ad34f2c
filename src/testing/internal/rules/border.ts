/** B2: the border between holders and waiters, in the one line. */
import * as Effect from "effect/Effect"
import { backingCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"

export const cases = [
  backingCase(
    "B2",
    "a request succeeds when the permits are free, and only then",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, isRefused, releases } = semaphore(5)
        yield* acquires("a", 3)
        yield* isRefused("b", 3)
        yield* acquires("b", 2)
        yield* isRefused("c", 1)
        yield* releases("a", 3)
        yield* acquires("c", 3)
      })
  ),

  backingCase(
    "B2",
    "a request is measured by its own limit, even if others ask with a larger one",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const large = semaphore(4)
        const small = semaphore(2, large.key)
        yield* large.acquires("a", 2)
        yield* small.isRefused("b", 1)
        yield* large.acquires("b", 1)
        yield* large.releases("a", 2)
        yield* small.acquires("c", 1)
        yield* small.isRefused("d", 1)
      })
  ),

  backingCase(
    "B2",
    "the smallest limit in the line counts",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const small = semaphore(2)
        const large = semaphore(4, small.key)
        yield* small.acquires("a", 1)
        yield* large.acquires("b", 1)
        yield* large.isRefused("c", 1)
        yield* large.waits("c", 1)
        yield* large.waits("d", 2)
        yield* large.releases("a", 1)
        yield* large.holds("c", 1)
        yield* large.holds("d", 2)
        equal(yield* large.count, 4, "permits held when the one with the smaller limit has left")
      })
  ),

  backingCase(
    "B2",
    "a request with a larger limit overtakes nobody",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const large = semaphore(10)
        const small = semaphore(2, large.key)
        yield* large.acquires("g", 2)
        yield* large.acquires("h", 6)
        yield* small.waits("a", 1)
        yield* large.waits("b", 1)
        yield* large.isRefused("c", 1)
        yield* large.releases("h", 6)
        equal((yield* large.stillWaits("b", 1)).position, 1, "the position behind one that its own limit keeps back")
        yield* large.isRefused("c", 1)
        yield* large.releases("g", 2)
        yield* small.holds("a", 1)
        yield* large.holds("b", 1)
        // The contender with the smaller limit still holds.
        yield* large.isRefused("c", 1)
        yield* large.releases("a", 1)
        yield* large.acquires("c", 9)
      })
  ),

  backingCase(
    "B2",
    "the limit of a contender is the smallest that it asked with",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const large = semaphore(4)
        const small = semaphore(2, large.key)
        yield* large.acquires("a", 1)
        yield* small.acquires("a", 1)
        yield* large.acquires("a", 1)
        yield* large.acquires("b", 1)
        yield* large.isRefused("c", 1)
        yield* large.releases("a", 1)
        yield* large.acquires("c", 3)
      })
  ),

  backingCase(
    "B2",
    "a smaller limit takes no hold away, and grants no more than it allows",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const large = semaphore(4)
        const small = semaphore(2, large.key)
        yield* large.acquires("a", 2)
        yield* large.acquires("b", 2)
        yield* small.acquires("a", 2)
        yield* large.holds("b", 2)
        equal(yield* large.count, 4, "permits held")
        yield* large.waits("c", 1)
        yield* large.releases("b", 2)
        yield* large.stillWaits("c", 1)
        yield* large.releases("a", 2)
        yield* large.holds("c", 1)
      })
  ),

  backingCase(
    "B2",
    "without queue, nobody overtakes the waiters",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, isRefused, releases, waits } = semaphore(3)
        yield* acquires("a", 2)
        yield* waits("b", 3)
        // One is free, and would be enough.
        yield* isRefused("c", 1)
        yield* releases("a", 2)
        yield* isRefused("c", 1)
        yield* holds("b", 3)
      })
  ),

  backingCase(
    "B2",
    "with queue, nobody overtakes the waiters either",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, waits } = semaphore(3)
        yield* acquires("a", 2)
        yield* waits("b", 2)
        yield* waits("c", 1)
        yield* waits("c", 1)
      })
  ),

  backingCase(
    "B2",
    "the contenders at the front that fit together hold, and those behind one that does not fit wait",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases, stillWaits, waits } = semaphore(5)
        yield* acquires("a", 3)
        yield* acquires("z", 2)
        for (const [id, permits] of [["b", 1], ["c", 2], ["d", 3], ["e", 1]] as const) yield* waits(id, permits)
        yield* releases("a", 3)
        equal(yield* count, 5, "permits held when three were released")
        yield* holds("b", 1)
        yield* holds("c", 2)
        equal((yield* stillWaits("d", 3)).position, 0, "the position of the next")
        equal((yield* stillWaits("e", 1)).position, 1, "the position of the last")
        yield* releases("c", 2)
        equal((yield* stillWaits("e", 1)).position, 1, "the position of the last when two are free")
        yield* releases("b", 1)
        yield* holds("d", 3)
        yield* stillWaits("e", 1)
      })
  ),

  backingCase("B2", "a refused request leaves no place in line", ["queue"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, isGone, isRefused, waits } = semaphore(1)
      yield* acquires("a", 1)
      yield* isRefused("b", 1)
      equal((yield* waits("c", 1)).position, 0, "the position of the first waiter")
      yield* isGone("b", 1)
    }))
]
