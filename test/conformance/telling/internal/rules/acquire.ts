/** B1 and B2: what a request for permits is answered. */
import { Effect } from "effect"
import { backingCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"

export const cases = [
  backingCase(
    "B1",
    "asking again for what one holds succeeds, and does not count twice",
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

  backingCase(
    "B1",
    "asking again for what one holds extends the lease",
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
    "asking for another number makes the hold exactly that",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(4)
        yield* acquires("a", 1)
        yield* acquires("b", 1)
        // What it holds itself counts as free.
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
    "a refused request changes nothing about what one holds",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, isRefused, releases } = semaphore(3)
        yield* acquires("a", 1)
        yield* acquires("b", 1)
        yield* isRefused("a", 3)
        equal(yield* count, 2, "permits held")
        equal(yield* releases("a", 1), 1, "permits freed")
      })
  ),

  backingCase(
    "B1",
    "waiting for another number changes nothing about what one holds",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, refreshes, waits } = semaphore(3)
        yield* acquires("a", 1)
        yield* acquires("b", 1)
        yield* waits("a", 3)
        equal(yield* count, 2, "permits held")
        equal(yield* refreshes("a", 1), true, "whether it still holds")
      })
  ),

  backingCase("B2", "succeeds when the permits are free, and only then", [], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, isRefused, releases } = semaphore(5)
      yield* acquires("a", 3)
      yield* isRefused("b", 3)
      yield* acquires("b", 2)
      yield* isRefused("c", 1)
      yield* releases("a", 3)
      yield* acquires("c", 3)
    })),

  backingCase("B2", "each request goes by its own limit", [], ({ semaphore }) =>
    Effect.gen(function*() {
      const before = semaphore(2)
      const after = semaphore(4, before.key)
      yield* before.acquires("a", 2)
      yield* before.isRefused("b", 1)
      yield* after.acquires("b", 1)
      yield* after.acquires("c", 1)
      yield* after.isRefused("d", 1)
      yield* before.releases("a", 2)
      yield* before.isRefused("d", 1)
      yield* after.acquires("d", 1)
    })),

  backingCase(
    "B2",
    "without queue, nobody overtakes those who wait",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, isRefused, releases, waits } = semaphore(3)
        yield* acquires("a", 2)
        yield* waits("b", 3)
        // One is free, and would be enough.
        yield* isRefused("c", 1)
        yield* releases("a", 2)
        yield* isRefused("c", 1)
        yield* acquires("b", 3)
      })
  ),

  backingCase("B2", "with queue, nobody overtakes either", ["queue"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, waits } = semaphore(3)
      yield* acquires("a", 2)
      yield* waits("b", 2)
      yield* waits("c", 1)
      yield* waits("c", 1)
    })),

  backingCase(
    "B2",
    "whoever fits along with everyone ahead goes, in any order",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, isRefused, releases, waits } = semaphore(5)
        yield* acquires("a", 5)
        yield* waits("b", 1)
        yield* waits("c", 2)
        yield* waits("d", 3)
        yield* releases("a", 3)
        yield* isRefused("d", 3)
        yield* acquires("c", 2)
        yield* isRefused("d", 3)
        yield* acquires("b", 1)
        yield* isRefused("d", 3)
        yield* releases("a", 2)
        yield* isRefused("d", 3)
        yield* releases("b", 1)
        yield* acquires("d", 3)
      })
  ),

  backingCase(
    "B2",
    "whoever comes last goes at once if all who wait fit too",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, waits } = semaphore(4)
        yield* acquires("a", 4)
        yield* waits("b", 2)
        yield* releases("a", 3)
        yield* acquires("c", 1)
        yield* acquires("b", 2)
      })
  ),

  backingCase("B2", "a refused request leaves no place in line", ["queue"], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, isRefused, waits } = semaphore(1)
      yield* acquires("a", 1)
      yield* isRefused("b", 1)
      equal((yield* waits("c", 1)).position, 0, "the position of the first who waits")
    })),

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
