/** One keeper refreshes all holds and places of a backing: trouble with one of them harms no other. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Schedule, Stream, Tracer } from "effect"
import { TestClock } from "effect/testing"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { DistributedSemaphore, Lease } from "../../src/index.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"
import { test } from "../utils/withFakeBacking.ts"

describe("a refreshAll that", () => {
  const wrong: ReadonlyArray<readonly [string, DistributedSemaphoreBacking["refreshAll"]]> = [
    ["dies", () => Effect.die("can't encode a key")],
    ["throws", () => {
      throw new Error("can't encode a key")
    }],
    ["gives too few answers", () => Effect.succeed([])]
  ]
  for (const [name, refreshAll] of wrong) {
    test(
      `${name} is replaced by a refresh of each: all holds and places are kept`,
      () => ({ refreshAll }),
      (calls) =>
        Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key", { ttl: "30 seconds" })
          const holder = yield* start(semaphore.withPermits(1)(Effect.never))
          const waiters = yield* Effect.forEach([1, 2], () => start(semaphore.withPermits(1)(Effect.succeed("done"))))
          yield* TestClock.adjust("10 minutes")
          expect(calls.some(({ operation }) => operation === "refreshAll")).toBe(true)
          expect(holder.pollUnsafe()).toBeUndefined()
          yield* Fiber.interrupt(holder)
          expect(yield* Fiber.joinAll(waiters)).toEqual(["done", "done"])
        })
    )
  }

  test(
    "does not answer, because a part of the store is down, holds up no release",
    () => ({ refreshAll: () => Effect.never }),
    (calls) =>
      Effect.gen(function*() {
        const semaphores = yield* Effect.forEach(["a", "b"], (key) => DistributedSemaphore.make(key))
        const holders = yield* Effect.forEach(semaphores, ({ withPermits }) => start(withPermits(1)(Effect.never)))
        yield* TestClock.adjust("10 seconds")
        expect(calls.at(-1)?.operation).toBe("refreshAll")
        yield* Fiber.interruptAll(holders)
        expect(calls.slice(-2).map(({ operation }) => operation)).toEqual(["release", "release"])
        expect(yield* Effect.forEach(semaphores, ({ currentCount }) => currentCount)).toEqual([0, 0])
      })
  )

  const impatiently = { backingFailureRetryPolicy: Schedule.recurs(0) }

  test(
    "fails ends no hold whose own refresh succeeds, even under a policy that allows no retry",
    () => ({ refreshAll: () => Effect.fail(FakeBacking.failure("refreshAll")) }),
    (calls) =>
      Effect.gen(function*() {
        const semaphores = yield* Effect.forEach(["a", "b"], (key) => DistributedSemaphore.make(key, impatiently))
        const kept = yield* Effect.forEach(semaphores, (semaphore) => start(semaphore.withPermits(1)(Effect.never)))
        yield* TestClock.adjust("10 minutes")
        expect(calls.some(({ operation }) => operation === "refreshAll")).toBe(true)
        expect(kept.map((fiber) => fiber.pollUnsafe())).toEqual([undefined, undefined])
      })
  )

  let refreshes = 0
  test(
    "fails for two holds of a key is repeated as the policy of each hold says",
    (real) => ({
      refreshAll: (requests) =>
        ++refreshes % 2 === 1 ? Effect.fail(FakeBacking.failure("refreshAll")) : real.refreshAll!(requests)
    }),
    () =>
      Effect.gen(function*() {
        const patient = yield* DistributedSemaphore.make("key", { limit: 2 })
        const impatient = yield* DistributedSemaphore.make("key", { limit: 2, ...impatiently })
        const kept = yield* start(patient.withPermits(1)(Effect.never))
        const ended = yield* start(Effect.flip(impatient.withPermits(1)(Effect.never)))
        yield* TestClock.adjust("10 minutes")
        expect(kept.pollUnsafe()).toBeUndefined()
        expect(yield* Fiber.join(ended)).toMatchObject({ _tag: "SemaphoreBackingError" })
      })
  )

  test(
    "fails because the part of the store with one key is down ends no hold of another key",
    (real) => ({
      refreshAll: (requests) =>
        requests.some(({ key }) => key === "down")
          ? Effect.fail(FakeBacking.failure("refreshAll"))
          : real.refreshAll!(requests),
      refresh: (key, ...rest) =>
        key === "down" ? Effect.fail(FakeBacking.failure("refresh")) : real.refresh(key, ...rest)
    }),
    (calls) =>
      Effect.gen(function*() {
        const healthy = yield* Effect.forEach(["a", "b", "c"], (key) => DistributedSemaphore.make(key, { limit: 10 }))
        const down = yield* DistributedSemaphore.make("down", { limit: 2 })
        const kept = yield* Effect.forEach(healthy, (semaphore) => start(semaphore.withPermits(1)(Effect.never)))
        const lost = yield* Effect.forEach([1, 2], () => start(Effect.flip(down.withPermits(1)(Effect.never))))
        yield* TestClock.adjust("10 minutes")
        expect(kept.map((fiber) => fiber.pollUnsafe())).toEqual([undefined, undefined, undefined])
        for (const error of yield* Fiber.joinAll(lost)) {
          expect(error).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
        }
        // Once the holds of the failing key are lost, the others share requests again.
        calls.length = 0
        yield* TestClock.adjust("1 minute")
        expect(calls.every(({ operation }) => operation === "refreshAll")).toBe(true)
        expect(calls.length).toBeLessThanOrEqual(7)
      })
  )
})

describe("a hold with a long ttl", () => {
  test(
    "is refreshed no more often beside one with a short ttl, and does not delay the refreshes of that one",
    () => ({}),
    (calls) =>
      Effect.gen(function*() {
        const long = yield* DistributedSemaphore.make("long", { ttl: "1 day" })
        const short = yield* DistributedSemaphore.make("short", { ttl: "100 millis" })
        const fibers = [
          yield* start(long.withPermits(1, { identifier: "long" })(Effect.never)),
          yield* start(short.withPermits(1, { identifier: "short" })(Effect.never))
        ]
        yield* TestClock.adjust("10 seconds")
        expect(fibers.map((fiber) => fiber.pollUnsafe())).toEqual([undefined, undefined])
        expect(calls.filter(({ holderId, operation }) => operation === "refresh" && holderId === "long")).toEqual([])
      })
  )
})

describe("a notification that comes while a request of the waiter is under way", () => {
  const answered = Deferred.makeUnsafe<void>()
  let asked = 0
  let free = false
  const signal = Deferred.makeUnsafe<void>()
  test(
    "leads to another request at once",
    () => ({
      // The second request is sent before the notification, and answered after it.
      tryAcquire: () =>
        Effect.suspend(() => {
          const answer = free
          return ++asked === 2 ? Effect.as(Deferred.await(answered), answer) : Effect.succeed(answer)
        }),
      onPermitsReleased: () => Stream.fromEffect(Deferred.await(signal))
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { acquireRetryInterval: "1 second", ttl: "1 hour" })
        const waiter = yield* start(semaphore.withPermits(1)(Effect.succeed("done")))
        yield* TestClock.adjust("1 second")
        expect(asked).toBe(2)
        free = true
        yield* Deferred.succeed(signal, undefined)
        yield* TestClock.adjust(0)
        yield* Deferred.succeed(answered, undefined)
        yield* TestClock.adjust(0)
        expect(yield* Fiber.join(waiter)).toBe("done")
      })
  )
})

describe("an acquireRetryPolicy", () => {
  test(
    "that dies ends the waiting with its defect",
    () => ({ tryAcquire: () => Effect.succeed(false), onPermitsReleased: undefined }),
    () =>
      Effect.gen(function*() {
        const acquireRetryPolicy = Schedule.spaced("1 second").pipe(
          Schedule.while(({ attempt }) => {
            if (attempt > 2) throw new Error("broken policy")
            return true
          })
        )
        const semaphore = yield* DistributedSemaphore.make("key", { acquireRetryPolicy })
        const waiter = yield* start(semaphore.withPermits(1)(Effect.void))
        yield* TestClock.adjust("1 minute")
        expect(Exit.hasDies(waiter.pollUnsafe()!)).toBe(true)
      })
  )

  test("that ends after its waiter was granted does not end the hold", () => ({}), () =>
    Effect.gen(function*() {
      const acquireRetryPolicy = Schedule.recurs(1).pipe(
        Schedule.while(({ attempt }) => Effect.as(Effect.sleep("5 seconds"), attempt < 2))
      )
      const semaphore = yield* DistributedSemaphore.make("key", { acquireRetryPolicy })
      const holder = yield* start(semaphore.withPermits(1)(Effect.never))
      const waiter = yield* start(semaphore.withPermits(1)(Effect.never))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust("5 minutes")
      expect(waiter.pollUnsafe()).toBeUndefined()
      expect(yield* semaphore.currentCount).toBe(1)
    }))
})

describe("work in the background", () => {
  test("does not belong to the span in which the first semaphore was made", (real) => ({
    release: (...args) =>
      Effect.flatMap(
        Effect.serviceOption(Tracer.ParentSpan),
        (span) => span._tag === "None" ? real.release(...args) : Effect.die(`a release of ${span.value.spanId}`)
      )
  }), () =>
    Effect.gen(function*() {
      const semaphore = yield* Effect.withSpan(DistributedSemaphore.make("key"), "the first request")
      yield* semaphore.withPermits(1)(Effect.void)
      expect(yield* semaphore.currentCount).toBe(0)
    }))

  test("keeps no earlier lease in memory when each job forks the next", () => ({}), () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      let last: unknown
      const job = (left: number): Effect.Effect<void, unknown> =>
        semaphore.withPermits(1)(Effect.gen(function*() {
          last = yield* Lease
          if (left > 0) yield* Effect.forkDetach(Effect.delay(job(left - 1), "1 second"))
        }))
      yield* job(20)
      yield* TestClock.adjust("1 minute")
      let depth = 0
      for (let lease = last as { readonly outer?: unknown } | undefined; lease !== undefined; depth++) {
        lease = lease.outer as typeof lease
      }
      expect(depth).toBe(1)
    }))

  it.live("lets timers run, although the semaphore was made by runSync", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<DistributedSemaphoreBacking>()
      const semaphore = Effect.runSync(Effect.provideContext(DistributedSemaphore.make("key"), context))
      const begin = performance.now()
      let over = false
      setTimeout(() => over = true, 200)
      // Ends after 5 s even if no timer runs.
      const again = Effect.whileLoop({
        while: () => !over && performance.now() - begin < 5000,
        body: () => semaphore.withPermits(1)(Effect.void),
        step: () => {}
      })
      yield* Effect.promise(() => Promise.all(Array.from({ length: 10 }, () => Effect.runPromise(again))))
      expect(over).toBe(true)
    }).pipe(Effect.provide(FakeBacking.layer([]))))
})

const bug = () => {
  throw new Error("a bug of the application")
}

describe("an observer of a fiber that throws", () => {
  test(
    "when the keepalive fiber ends does not keep the permits or the identifier",
    () => ({}),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const take = Effect.scoped(Effect.tap(semaphore.take(1, { identifier: "me" }), (keepAlive) =>
          Effect.sync(() =>
            keepAlive.addObserver(bug)
          )))
        yield* take
        expect(yield* semaphore.currentCount).toBe(0)
        yield* take
      })
  )

  test(
    "when its waiter is granted keeps no other waiter from its grant",
    (real) => ({
      // Those that look are answered only when they are granted.
      refreshAll: undefined,
      tryAcquire: (...args) =>
        Effect.map(real.tryAcquire(...args), (answer) =>
          typeof answer === "object" && answer._tag === "Waiting"
            ? { ...answer, retryAfter: Duration.hours(1) }
            : answer)
    }),
    () =>
      Effect.gen(function*() {
        const context = yield* Effect.context<never>()
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "1 hour" })
        const holder = yield* start(semaphore.withPermits(1)(Effect.never))
        let ended = false
        Effect.runCallbackWith(context)(semaphore.withPermits(1)(Effect.void), {
          onExit: () => {
            ended = true
            bug()
          }
        })
        yield* TestClock.adjust(0)
        const others = yield* Effect.forEach([1, 2], () => start(semaphore.withPermits(1)(Effect.void)))
        yield* Fiber.interrupt(holder)
        yield* TestClock.adjust("10 millis")
        expect(ended).toBe(true)
        expect(others.map((fiber) => fiber.pollUnsafe())).toEqual([Exit.void, Exit.void])
      })
  )

  test(
    "when the store has not answered in time ends no refreshes of other holds",
    (real) => ({
      tryAcquire: (key, ...rest) => key === "down" ? Effect.never : real.tryAcquire(key, ...rest)
    }),
    () =>
      Effect.gen(function*() {
        const context = yield* Effect.context<never>()
        const [down, other] = yield* Effect.forEach(
          ["down", "other"],
          (key) => DistributedSemaphore.make(key, { backingFailureRetryPolicy: Schedule.recurs(0) })
        )
        let ended = false
        Effect.runCallbackWith(context)(down!.withPermits(1)(Effect.never), {
          onExit: () => {
            ended = true
            bug()
          }
        })
        const kept = yield* start(other!.withPermits(1)(Effect.never))
        yield* TestClock.adjust("5 minutes")
        expect(ended).toBe(true)
        expect(kept.pollUnsafe()).toBeUndefined()
        expect(yield* other!.currentCount).toBe(1)
      })
  )
})
