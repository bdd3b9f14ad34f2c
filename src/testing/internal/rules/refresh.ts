/** B5: keeping holds and places alive. */
import * as Effect from "effect/Effect"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"

export const cases = [
  leaseCase("B5", "a refresh extends the lease", [], ({ expire, inTime, long, semaphore }) =>
    Effect.gen(function*() {
      const { count, ttl } = yield* inTime((ttl) =>
        Effect.gen(function*() {
          const { acquires, count, holds } = semaphore(1)
          yield* acquires("a", 1, ttl)
          yield* holds("a", 1, long)
          return { count, ttl }
        })
      )
      yield* expire(ttl)
      equal(yield* count, 1, "permits held when the first ttl has passed")
    })),

  leaseCase(
    "B5",
    "the lease lasts ttl from the refresh, even if it would have lasted longer",
    [],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, count, holds } = subject.semaphore(1)
        yield* acquires("a", 1)
        yield* holds("a", 1, subject.short)
        yield* subject.expire(subject.short)
        equal(yield* count, 0, "permits held when the ttl of the refresh has passed")
      })
  ),

  backingCase("B5", "a refresh leaves the number of permits alone", [], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, holds, releases } = semaphore(3)
      yield* acquires("a", 2)
      yield* holds("a", 1)
      equal(yield* count, 2, "permits held after a refresh with a smaller number")
      yield* holds("a", 3)
      equal(yield* count, 2, "permits held after a refresh with a larger number")
      equal(yield* releases("a", 2), 2, "permits freed")
    })),

  backingCase(
    "B5",
    "the answer to a refresh says how many permits are held, if these are fewer than it asks for",
    ["tokens"],
    ({ long, processOf, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key } = semaphore(3)
        const held = (permits: number) =>
          Effect.map(
            processOf("a").refresh(key, "a", long, 3, permits),
            (answer) => typeof answer === "object" && answer._tag === "Acquired" ? answer.permits : answer
          )
        yield* acquires("a", 2)
        equal(yield* held(3), 2, "the permits in the answer to a refresh of more than are held")
        equal(yield* held(2), undefined, "the permits in the answer to a refresh of all that are held")
        equal(yield* held(1), undefined, "the permits in the answer to a refresh of fewer than are held")
      })
  ),

  backingCase(
    "B5",
    "a refresh creates nothing: it answers false for a holder that never held, or has released",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, isGone, releases } = semaphore(1)
        yield* isGone("a", 1)
        yield* acquires("a", 1)
        yield* releases("a", 1)
        yield* isGone("a", 1)
        equal(yield* count, 0, "permits held")
        yield* acquires("b", 1)
      })
  ),

  leaseCase(
    "B5",
    "a refresh resurrects no hold: it answers false for one that has expired",
    [],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, isGone } = semaphore(1)
        yield* acquires("a", 1, short)
        yield* expire(short)
        yield* isGone("a", 1)
        equal(yield* count, 0, "permits held")
        yield* acquires("b", 1)
        yield* isGone("a", 1)
        equal(yield* count, 1, "permits held")
      })
  ),

  leaseCase(
    "B5",
    "a refresh renews a place, and answers that it is one",
    ["queue"],
    ({ expire, inTime, long, semaphore }) =>
      Effect.gen(function*() {
        const { stillWaits, token, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, stillWaits, waits } = semaphore(1)
            yield* acquires("a", 1)
            yield* waits("z", 1)
            const { token } = yield* waits("b", 1, ttl)
            const place = yield* stillWaits("b", 1, long)
            equal([place.token, place.position], [token, 1], "token and position")
            return { stillWaits, token, ttl }
          })
        )
        yield* expire(ttl)
        const place = yield* stillWaits("b", 1)
        equal([place.token, place.position], [token, 1], "token and position when the first ttl has passed")
      })
  ),

  backingCase(
    "B5",
    "a refresh does not change the number of permits that a waiter wants",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases, stillWaits, waits } = semaphore(3)
        yield* acquires("a", 3)
        yield* waits("b", 2)
        yield* stillWaits("b", 1)
        yield* releases("a", 3)
        equal(yield* count, 2, "permits held")
        yield* holds("b", 2)
      })
  ),

  leaseCase(
    "B5",
    "a refresh resurrects no place: it answers false for one that has expired or was given up",
    ["queue"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, isGone, releases, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* waits("b", 1)
        yield* waits("c", 1, short)
        yield* releases("b", 1)
        yield* isGone("b", 1)
        yield* expire(short)
        yield* isGone("c", 1)
        equal((yield* waits("d", 1)).position, 0, "the position of the next")
      })
  ),

  leaseCase(
    "B5",
    "a refresh with an old token extends no newer hold",
    ["tokens"],
    ({ expire, long, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, isGone, releases } = semaphore(1)
        const old = yield* acquires("a", 1)
        yield* releases("a", 1)
        yield* acquires("a", 1, short)
        yield* isGone("a", 1, long, old)
        yield* expire(short)
        equal(yield* count, 0, "permits held when the ttl of the newer hold has passed")
      })
  ),

  leaseCase(
    "B5",
    "a refresh with an old token renews no newer place",
    ["queue"],
    ({ expire, long, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, isGone, releases, waits } = semaphore(1)
        yield* acquires("a", 1)
        const { token } = yield* waits("b", 1)
        yield* releases("b", 1)
        yield* waits("b", 1, short)
        yield* isGone("b", 1, long, token)
        yield* expire(short)
        yield* isGone("b", 1)
      })
  ),

  backingCase(
    "B5",
    "a refresh with the token of a hold or a place extends it",
    ["queue"],
    ({ long, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, stillWaits, waits } = semaphore(1)
        const token = yield* acquires("a", 1)
        const place = yield* waits("b", 1)
        equal(yield* holds("a", 1, long, token), token, "the token of the hold")
        equal((yield* stillWaits("b", 1, long, place.token)).token, place.token, "the token of the place")
      })
  )
]
