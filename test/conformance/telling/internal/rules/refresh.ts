/** B5: keeping a lease alive. */
import { Effect } from "effect"
import { backingCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"

export const cases = [
  backingCase("B5", "extends the lease", [], ({ expire, inTime, long, semaphore }) =>
    Effect.gen(function*() {
      const { count, ttl } = yield* inTime((ttl) =>
        Effect.gen(function*() {
          const { acquires, count, refreshes } = semaphore(1)
          yield* acquires("a", 1, ttl)
          equal(yield* refreshes("a", 1, long), true, "whether it still holds")
          return { count, ttl }
        })
      )
      yield* expire(ttl)
      equal(yield* count, 1, "permits held when the first ttl has passed")
    })),

  backingCase(
    "B5",
    "the lease lasts ttl from the refresh, even if it would have lasted longer",
    [],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, count, refreshes } = subject.semaphore(1)
        yield* acquires("a", 1)
        equal(yield* refreshes("a", 1, subject.short), true, "whether it still holds")
        yield* subject.expire(subject.short)
        equal(yield* count, 0, "permits held when the ttl of the refresh has passed")
      })
  ),

  backingCase("B5", "leaves the number of permits alone", [], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, refreshes, releases } = semaphore(3)
      yield* acquires("a", 2)
      yield* refreshes("a", 1)
      equal(yield* count, 2, "permits held after a refresh with a smaller number")
      yield* refreshes("a", 3)
      equal(yield* count, 2, "permits held after a refresh with a larger number")
      equal(yield* releases("a", 2), 2, "permits freed")
    })),

  backingCase(
    "B5",
    "creates nothing: false for one who never held, or has released",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, refreshes, releases } = semaphore(1)
        equal(yield* refreshes("a", 1), false, "the answer to one who never held")
        yield* acquires("a", 1)
        yield* releases("a", 1)
        equal(yield* refreshes("a", 1), false, "the answer to one who has released")
        equal(yield* count, 0, "permits held")
        yield* acquires("b", 1)
      })
  ),

  backingCase(
    "B5",
    "resurrects nothing: false for a hold that has expired",
    [],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, refreshes } = semaphore(1)
        yield* acquires("a", 1, short)
        yield* expire(short)
        equal(yield* refreshes("a", 1), false, "the answer to a hold that has expired")
        equal(yield* count, 0, "permits held")
        yield* acquires("b", 1)
        equal(yield* refreshes("a", 1), false, "the answer when somebody else holds")
        equal(yield* count, 1, "permits held")
      })
  ),

  backingCase(
    "B5",
    "a waiter has nothing to refresh, and keeps its place",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, refreshes, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* waits("b", 1)
        equal(yield* refreshes("b", 1), false, "the answer to a waiter")
        equal((yield* waits("c", 1)).position, 1, "the position of the next")
      })
  )
]
