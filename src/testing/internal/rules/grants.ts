/** B4, B6 and B11: the store grants, in the step that frees the permits. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"
import { now } from "../subject.ts"

export const cases = [
  backingCase(
    "B4",
    "a release grants: the waiter counts as holder right after it",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, isRefused, key, releases, waits } = semaphore(2)
        yield* acquires("a", 2)
        yield* waits("b", 1)
        equal(yield* releases("a", 2), 2, "permits freed")
        equal(yield* count, 1, "permits held")
        yield* semaphore(2, key).isRefused("c", 2)
        yield* isRefused("d", 2)
        equal(yield* releases("b", 1), 1, "permits freed by one that was granted, and has not asked again")
      })
  ),

  backingCase(
    "B4",
    "a release grants: inspect shows the waiter among the holders right after it",
    ["queue", "inspect"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, inspect, releases, waits } = semaphore(2)
        yield* acquires("a", 2)
        yield* waits("b", 2)
        yield* waits("c", 1)
        yield* releases("a", 2)
        const { holders, line } = yield* inspect
        equal(
          [holders, line].map((list) => list.map(({ identifier }) => identifier)),
          [["b"], ["c"]],
          "holders and line"
        )
      })
  ),

  backingCase(
    "B4",
    "a part of a hold that is given up is granted",
    ["queue", "partialRelease"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases, stillWaits, waits } = semaphore(3)
        yield* acquires("a", 3)
        yield* waits("b", 2)
        equal(yield* releases("a", 1), 1, "permits freed")
        yield* stillWaits("b", 2)
        equal(yield* releases("a", 1), 1, "permits freed")
        yield* holds("b", 2)
        equal(yield* count, 3, "permits held")
      })
  ),

  backingCase(
    "B4",
    "when a waiter leaves, those behind it that fit now are granted",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases, waits } = semaphore(3)
        yield* acquires("a", 2)
        yield* waits("b", 2)
        yield* waits("c", 1)
        equal(yield* releases("b", 2), 0, "permits freed by a waiter")
        equal(yield* count, 3, "permits held")
        yield* holds("c", 1)
      })
  ),

  backingCase(
    "B11",
    "a grant has the token that the waiter was answered",
    ["queue"],
    ({ options, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, inspect, releases, stillWaits, waits } = semaphore(1)
        yield* acquires("a", 1)
        const { token } = yield* waits("b", 1)
        equal((yield* waits("b", 1)).token, token, "the token when asked again")
        equal((yield* stillWaits("b", 1)).token, token, "the token when refreshed")
        yield* releases("a", 1)
        if (options.has("inspect")) {
          equal((yield* inspect).holders[0]!.fencingToken, token as never, "the token that inspect shows")
        }
        equal(yield* holds("b", 1), token, "the token of the hold, when refreshed")
        equal(yield* acquires("b", 1), token, "the token of the hold, when asked again")
      })
  ),

  leaseCase(
    "B6",
    "a granted hold expires no later than its place would have",
    ["queue"],
    ({ expire, inTime, semaphore }) =>
      Effect.gen(function*() {
        const { count, isGone, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, count, isGone, releases, waits } = semaphore(1)
            yield* acquires("a", 1)
            yield* waits("b", 1, ttl)
            yield* releases("a", 1)
            equal(yield* count, 1, "permits held")
            return { count, isGone, ttl }
          })
        )
        yield* expire(ttl)
        equal(yield* count, 0, "permits held when the ttl of the place has passed")
        yield* isGone("b", 1)
      })
  ),

  leaseCase(
    "B6",
    "a granted hold expires no earlier than its place would have",
    ["queue"],
    ({ eventually, expire, inTime, semaphore }) =>
      Effect.gen(function*() {
        // It does not expire with the hold before it…
        const behind = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, holds, releases, waits } = semaphore(1)
            yield* acquires("a", 1, ttl)
            yield* waits("b", 1)
            yield* releases("a", 1)
            return { holds, ttl }
          })
        )
        yield* expire(behind.ttl)
        yield* behind.holds("b", 1)

        // … nor before its own ttl is over.
        const { count, start, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, count, releases, waits } = semaphore(1)
            yield* acquires("a", 1)
            const start = yield* now
            yield* waits("b", 1, ttl)
            yield* releases("a", 1)
            equal(yield* count, 1, "permits held")
            return { count, start, ttl }
          })
        )
        yield* eventually("the granted hold expires", Effect.map(count, (held) => held === 0))
        const lasted = Duration.nanos((yield* now) - start)
        isTrue(
          Duration.isGreaterThanOrEqualTo(lasted, ttl),
          `a granted hold with a ttl of ${Duration.format(ttl)} was gone after ${Duration.format(lasted)}`
        )
      })
  ),

  leaseCase(
    "B6",
    "the next operation, by whichever contender, grants what an expired hold leaves",
    ["queue"],
    ({ expire, inTime, semaphore }) =>
      Effect.gen(function*() {
        const { count, releases, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, count, releases, waits } = semaphore(2)
            yield* acquires("a", 2, ttl)
            yield* waits("b", 1)
            return { count, releases, ttl }
          })
        )
        yield* expire(ttl)
        equal(yield* releases("nobody", 1), 0, "permits freed by a stranger")
        equal(yield* count, 1, "permits held")
        equal(yield* releases("b", 1), 1, "permits freed by the one that was granted")
      })
  ),

  leaseCase(
    "B6",
    "the next operation, by whichever contender, grants what an expired place leaves",
    ["queue"],
    ({ expire, inTime, semaphore }) =>
      Effect.gen(function*() {
        const { count, isGone, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, count, isGone, waits } = semaphore(2)
            yield* acquires("a", 1)
            yield* waits("b", 2, ttl)
            yield* waits("c", 1)
            return { count, isGone, ttl }
          })
        )
        yield* expire(ttl)
        yield* isGone("nobody", 1)
        equal(yield* count, 2, "permits held")
      })
  )
]
