/** B4: giving permits back, and the place in line. */
import * as Effect from "effect/Effect"
import { backingCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"

export const cases = [
  backingCase("B4", "a release frees the permits, and answers how many", [], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, releases } = semaphore(3)
      yield* acquires("a", 2)
      yield* acquires("b", 1)
      equal(yield* releases("a", 2), 2, "permits freed")
      equal(yield* count, 1, "permits held")
      yield* acquires("c", 2)
    })),

  backingCase("B4", "a part of a hold can be given up", ["partialRelease"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, holds, isGone, releases } = semaphore(5)
      yield* acquires("a", 5)
      equal(yield* releases("a", 2), 2, "permits freed")
      equal(yield* count, 3, "permits held")
      yield* holds("a", 3)
      yield* acquires("b", 2)
      equal(yield* releases("a", 3), 3, "permits freed")
      yield* isGone("a", 3)
    })),

  backingCase(
    "B4",
    "a release frees no more than is held",
    ["partialRelease"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(5)
        yield* acquires("a", 2)
        yield* acquires("b", 3)
        equal(yield* releases("a", 5), 2, "permits freed")
        equal(yield* count, 3, "permits held")
      })
  ),

  backingCase(
    "B4",
    "an unknown holder frees nothing, of its own or of others",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(3)
        equal(yield* releases("nobody", 1), 0, "permits freed of an unused key")
        yield* acquires("a", 2)
        equal(yield* releases("nobody", 1), 0, "permits freed by a stranger")
        equal(yield* count, 2, "permits held")
      })
  ),

  backingCase(
    "B4",
    "a release by a waiter gives up its place, however many permits it names, and frees nothing",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, isGone, releases, waits } = semaphore(3)
        yield* acquires("a", 3)
        yield* waits("b", 3)
        yield* waits("c", 1)
        equal(yield* releases("b", 1), 0, "permits freed by one that only waits")
        yield* isGone("b", 3)
        equal((yield* waits("c", 1)).position, 0, "the position of the next in line")
        yield* releases("a", 3)
        yield* holds("c", 1)
      })
  ),

  backingCase(
    "B4",
    "a release with the token of the hold frees it",
    ["tokens"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(2)
        const token = yield* acquires("a", 2)
        equal(yield* releases("a", 2, token), 2, "permits freed")
        equal(yield* count, 0, "permits held")
      })
  ),

  backingCase(
    "B4",
    "a release with an old token touches no newer hold",
    ["tokens"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases } = semaphore(2)
        const old = yield* acquires("a", 1)
        yield* releases("a", 1)
        const token = yield* acquires("a", 1)
        equal(yield* releases("a", 1, old), 0, "permits freed by a late release")
        equal(yield* count, 1, "permits held")
        equal(yield* holds("a", 1), token, "the token of the newer hold")
        equal(yield* releases("a", 1, token), 1, "permits freed by the release of the newer hold")
      })
  ),

  backingCase(
    "B4",
    "a release with an old token touches no newer place, not even a granted one",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases, stillWaits, waits } = semaphore(1)
        yield* acquires("a", 1)
        const old = yield* waits("b", 1)
        yield* releases("b", 1, old.token)
        const { token } = yield* waits("b", 1)
        equal(yield* releases("b", 1, old.token), 0, "permits freed by a late release")
        equal((yield* stillWaits("b", 1)).token, token, "the token of the newer place")
        yield* releases("a", 1)
        equal(yield* releases("b", 1, old.token), 0, "permits freed by a late release")
        equal(yield* holds("b", 1), token, "the token of the granted hold")
        equal(yield* releases("b", 1, token), 1, "permits freed with the token of the place that was granted")
        equal(yield* count, 0, "permits held")
      })
  )
]
