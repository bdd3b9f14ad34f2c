/** B4: giving permits back, and the place in line. */
import { Effect } from "effect"
import { backingCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"

export const cases = [
  backingCase("B4", "frees the permits, and says how many", [], ({ semaphore }) =>
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
      const { acquires, count, refreshes, releases } = semaphore(5)
      yield* acquires("a", 5)
      equal(yield* releases("a", 2), 2, "permits freed")
      equal(yield* count, 3, "permits held")
      equal(yield* refreshes("a", 3), true, "whether the rest is still held")
      yield* acquires("b", 2)
      equal(yield* releases("a", 3), 3, "permits freed")
      equal(yield* refreshes("a", 3), false, "whether there is a hold without permits")
    })),

  backingCase("B4", "frees no more than is held", ["partialRelease"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, releases } = semaphore(5)
      yield* acquires("a", 2)
      yield* acquires("b", 3)
      equal(yield* releases("a", 5), 2, "permits freed")
      equal(yield* count, 3, "permits held")
    })),

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

  backingCase("B4", "gives up the place in line", ["queue"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, releases, waits } = semaphore(1)
      yield* acquires("a", 1)
      yield* waits("b", 1)
      yield* waits("c", 1)
      equal(yield* releases("b", 1), 0, "permits freed by one who only waits")
      equal((yield* waits("c", 1)).position, 0, "the position of the next in line")
      yield* releases("a", 1)
      yield* acquires("c", 1)
    })),

  backingCase("B4", "a holder that waits gives up both", ["queue"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, releases, waits } = semaphore(2)
      yield* acquires("a", 1)
      yield* acquires("b", 1)
      yield* waits("a", 2)
      equal(yield* releases("a", 1), 1, "permits freed")
      equal(yield* count, 1, "permits held")
      equal((yield* waits("c", 2)).position, 0, "the position of the first who waits")
    })),

  backingCase("B4", "wakes whoever can go now", ["queue", "push"], ({ listen, semaphore }) =>
    Effect.gen(function*() {
      const { acquires, key, releases, waits } = semaphore(2)
      yield* acquires("a", 2)
      const { toldAmongOthers } = yield* listen(key, "b", "c")
      yield* waits("b", 1)
      yield* waits("c", 1)
      yield* releases("a", 2)
      yield* toldAmongOthers("b", "c")
    })),

  backingCase(
    "B4",
    "wakes those behind a waiter that leaves",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(3)
        yield* acquires("a", 2)
        const { toldAmongOthers } = yield* listen(key, "c")
        yield* waits("b", 2)
        yield* waits("c", 1)
        yield* releases("b", 2)
        yield* toldAmongOthers("c")
      })
  ),

  backingCase(
    "B4",
    "wakes again who was woken before, and then could not go",
    ["queue", "push", "partialRelease"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const large = semaphore(6)
        const small = semaphore(4, large.key)
        yield* large.acquires("h", 6)
        const { toldAmongOthers } = yield* listen(large.key, "a", "b")
        yield* small.waits("a", 2)
        yield* large.waits("b", 2)
        yield* large.releases("h", 4)
        yield* toldAmongOthers("a", "b")
        // By its larger limit, the second may go at the same time as the first; if it is quicker, the first can't go any more.
        yield* large.acquires("b", 2)
        yield* small.isRefused("a", 2)
        yield* large.releases("h", 2)
        yield* toldAmongOthers("a")
        yield* small.acquires("a", 2)
      })
  )
]
