/** S5 and C5: operations whose replies are lost, and what is left in the end. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"

export const cases = [
  backingCase(
    "S5",
    "an acquire whose reply was lost can be repeated",
    [],
    ({ long, processOf, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, key, releases } = semaphore(2)
        for (let round = 0; round < 10; round++) {
          const lost = yield* Effect.forkScoped(processOf("a").tryAcquire(key, "a", long, 2, 2), {
            startImmediately: true
          })
          for (let yields = 0; yields < round; yields++) yield* Effect.yieldNow
          yield* Fiber.interrupt(lost)
          yield* acquires("a", 2)
          equal(yield* count, 2, "permits held")
          equal(yield* releases("a", 2), 2, "permits freed")
        }
      })
  ),

  backingCase(
    "S5",
    "a repeated acquire blocks neither others nor itself",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(3)
        for (let repetition = 0; repetition < 5; repetition++) yield* acquires("a", 2)
        equal(yield* count, 2, "permits held")
        yield* acquires("b", 1)
        equal(yield* releases("a", 2), 2, "permits freed")
        equal(yield* count, 1, "permits held")
      })
  ),

  backingCase(
    "S5",
    "a repeated request with queue has one place",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* waits("b", 1)
        yield* waits("b", 1)
        equal((yield* waits("c", 1)).position, 1, "the position of the next")
        yield* releases("b", 1)
        equal((yield* waits("c", 1)).position, 0, "the position when the place was given up once")
      })
  ),

  backingCase(
    "S5",
    "a request with queue whose reply was lost can be repeated, also when it was granted meanwhile",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, releases, waits } = semaphore(2)
        yield* acquires("a", 2)
        const { token } = yield* waits("b", 2)
        yield* releases("a", 2)
        equal(yield* acquires("b", 2), token, "the token of the repeated request")
        equal(yield* holds("b", 2), token, "the token of the hold")
        equal(yield* count, 2, "permits held")
        equal(yield* releases("b", 2), 2, "permits freed")
      })
  ),

  backingCase("S5", "a repeated release frees nothing of anyone else's", [], ({ semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, isRefused, releases } = semaphore(2)
      yield* acquires("a", 1)
      yield* acquires("b", 1)
      equal(yield* releases("a", 1), 1, "permits freed")
      yield* acquires("c", 1)
      equal(yield* releases("a", 1), 0, "permits freed again")
      equal(yield* count, 2, "permits held")
      yield* isRefused("d", 1)
    })),

  leaseCase(
    "S5",
    "a release that comes when the hold has expired frees nothing of anyone else's",
    [],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = subject.semaphore(1)
        yield* acquires("a", 1, subject.short)
        yield* subject.expire(subject.short)
        yield* acquires("b", 1)
        equal(yield* releases("a", 1), 0, "permits freed")
        equal(yield* count, 1, "permits held")
      })
  ),

  backingCase(
    "S5",
    "a refresh that comes after the release resurrects nothing",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, isGone, releases } = semaphore(1)
        yield* acquires("a", 1)
        yield* releases("a", 1)
        yield* isGone("a", 1)
        equal(yield* count, 0, "permits held")
      })
  ),

  leaseCase(
    "C5",
    "an idle key has nothing to show",
    ["inspect"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, inspect, key, releases } = semaphore(2)
        yield* acquires("a", 2)
        yield* releases("a", 2)
        equal(
          yield* inspect,
          { holders: [], line: [], holderCount: 0, waiterCount: 0 },
          `what is known of ${key} after the release`
        )
        yield* acquires("a", 2, short)
        yield* expire(short)
        equal(
          yield* inspect,
          { holders: [], line: [], holderCount: 0, waiterCount: 0 },
          `what is known of ${key} after expiry`
        )
      })
  ),

  leaseCase(
    "C5",
    "an idle key leaves nothing in the store, once its leases would have ended",
    ["footprint"],
    (subject) =>
      Effect.gen(function*() {
        const { options, semaphore } = subject
        const isGone = (key: string) => Effect.map(options.footprint(key), (entries) => entries === 0)
        const inUse = semaphore(2)
        yield* inUse.acquires("a", 1)
        equal(yield* isGone(inUse.key), false, "whether the store has nothing of a semaphore in use")

        const { expired, released, ttl } = yield* subject.inTime((ttl) =>
          Effect.gen(function*() {
            const released = semaphore(2)
            const expired = semaphore(2)
            for (const { acquires, isRefused } of [released, expired]) {
              yield* acquires("a", 1, ttl)
              yield* acquires("b", 1, ttl)
              yield* isRefused("c", 1, ttl)
            }
            if (options.has("queue")) yield* expired.waits("d", 2, ttl)
            yield* released.releases("a", 1)
            yield* released.releases("b", 1)
            return { expired, released, ttl }
          })
        )
        yield* subject.expire(ttl)
        yield* subject.eventually("nothing is left of what was released", isGone(released.key))
        yield* subject.eventually("nothing is left of what has expired", isGone(expired.key))
      })
  )
]
