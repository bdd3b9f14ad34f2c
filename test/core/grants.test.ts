/** Waiters of a store that grants: they need not ask again. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Fiber, Option, Queue, Stream } from "effect"
import type { Scope } from "effect"
import { TestClock } from "effect/testing"
import type { DistributedSemaphoreBacking, FencingToken } from "../../src/index.ts"
import { DistributedSemaphore, Lease } from "../../src/index.ts"
import type { Call, Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

type Semaphore = DistributedSemaphore.DistributedSemaphore

const test = (
  name: string,
  replace: Replace,
  body: (
    semaphore: Semaphore,
    calls: Array<Call>
  ) => Effect.Effect<void, unknown, Scope.Scope | DistributedSemaphoreBacking>
) =>
  it.effect(name, () => {
    const calls: Array<Call> = []
    return Effect.flatMap(
      DistributedSemaphore.make("key", { ttl: "30 seconds" }),
      (semaphore) => body(semaphore, calls)
    ).pipe(Effect.provide(FakeBacking.layer(calls, replace)))
  })

const counts = (calls: ReadonlyArray<Call>) => {
  const found: Partial<Record<Call["operation"], number>> = {}
  for (const { operation } of calls) found[operation] = (found[operation] ?? 0) + 1
  return found
}

const tokenOf = Effect.map(Lease, ({ fencingToken }) => Option.getOrThrow(fencingToken))

describe("a waiter whose place the store grants", () => {
  test(
    "asks nothing more, and has the number of its place as its token",
    () => ({}),
    (semaphore, calls) =>
      Effect.gen(function*() {
        const holder = yield* start(semaphore.withPermits(1)(Effect.never))
        const waiters = yield* Effect.forEach([1, 2, 3], () => start(semaphore.withPermits(1)(tokenOf)))
        const places = (yield* semaphore.inspect).line.map(({ fencingToken }) => fencingToken)
        // The first waiter has refreshed its place once, when the subscription stood.
        expect(counts(calls)).toEqual({ tryAcquire: 4, onPermitsReleased: 1, refresh: 1 })
        yield* Fiber.interrupt(holder)
        expect(yield* Fiber.joinAll(waiters)).toEqual(places)
        expect(counts(calls)).toEqual({ tryAcquire: 4, onPermitsReleased: 1, refresh: 1, release: 4 })
      })
  )

  test(
    "shares its subscription with all waiters of the key, also with those that come within the next minute",
    () => ({}),
    (
      semaphore,
      calls
    ) =>
      Effect.gen(function*() {
        const contend = Effect.gen(function*() {
          const holder = yield* start(semaphore.withPermits(1)(Effect.never))
          const waiters = yield* Effect.forEach([1, 2, 3], () => start(semaphore.withPermits(1)(Effect.void)))
          yield* Fiber.interrupt(holder)
          yield* Fiber.joinAll(waiters)
          return counts(calls).onPermitsReleased
        })
        expect(yield* contend).toBe(1)
        yield* TestClock.adjust("59 seconds")
        expect(yield* contend).toBe(1)
        yield* TestClock.adjust("61 seconds")
        expect(yield* contend).toBe(2)
      })
  )

  const listening = new Set<string>()
  test(
    "leaves its subscription to later waiters: a process keeps the thousand that were used last, and those of its waiters",
    (real) => ({
      onPermitsReleased: (key) =>
        Stream.unwrap(Effect.as(
          Effect.acquireRelease(
            Effect.sync(() => listening.add(key)),
            () => Effect.sync(() => listening.delete(key))
          ),
          real.onPermitsReleased!(key)
        ))
    }),
    (semaphore) =>
      Effect.gen(function*() {
        yield* start(semaphore.withPermits(1)(Effect.never))
        yield* start(semaphore.withPermits(1)(Effect.never))
        const contend = (index: number) =>
          Effect.gen(function*() {
            const mutex = yield* DistributedSemaphore.make(`${index}`)
            const holder = yield* start(mutex.withPermits(1)(Effect.never))
            const waiter = yield* start(mutex.withPermits(1)(Effect.void))
            yield* Fiber.interrupt(holder)
            yield* Fiber.join(waiter)
          })
        yield* Effect.forEach(Array.from({ length: 1000 }), (_, index) => contend(index))
        yield* contend(0)
        expect(listening.size).toBe(1001)
        yield* contend(1000)
        expect(listening.size).toBe(1001)
        expect(["key", "0", "1", "2"].map((key) => listening.has(key))).toEqual([true, true, false, true])
        yield* TestClock.adjust("1 minute")
        expect(Array.from(listening)).toEqual(["key"])
      })
  )

  const replied = Deferred.makeUnsafe<void>()
  let asked = 0
  test(
    "holds, although the grant arrives before the answer that names its place",
    (real) => ({
      // The second waiter's answer is late. The subscription stands already.
      tryAcquire: (...args) =>
        Effect.tap(real.tryAcquire(...args), () => ++asked === 3 ? Deferred.await(replied) : Effect.void)
    }),
    (semaphore, calls) =>
      Effect.gen(function*() {
        const holder = yield* start(semaphore.withPermits(1)(Effect.never))
        const first = yield* start(semaphore.withPermits(1)(Effect.void))
        const second = yield* start(semaphore.withPermits(1)(Effect.succeed("done")))
        yield* Fiber.interrupt(holder)
        yield* Fiber.join(first)
        const before = counts(calls)
        yield* Deferred.succeed(replied, undefined)
        expect(yield* Fiber.join(second)).toBe("done")
        expect(counts(calls)).toEqual({ ...before, release: before.release! + 1 })
      })
  )

  test("has a lease that counts from when its place was last renewed, not from the grant", (real) => {
    let renewals = 0
    return { refresh: (...args) => ++renewals <= 1 ? real.refresh(...args) : FakeBacking.hangs }
  }, (semaphore) =>
    Effect.gen(function*() {
      const holder = yield* start(semaphore.withPermits(1)(Effect.never))
      const lost = yield* start(Effect.flip(semaphore.withPermits(1)(Effect.never)))
      yield* TestClock.adjust("500 millis")
      yield* Fiber.interrupt(holder)
      // It joined at 0 s. A ttl of 30 s is trusted for 28.5 s.
      yield* TestClock.adjust("27999 millis")
      expect(lost.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(lost)).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
    }))
})

describe("a grant", () => {
  it.effect("that arrives when its lease is over, by the local clock, is not used: the waiter asks again, for a new place", () =>
    Effect.gen(function*() {
      // This process is paused: its timers fire late, but its clocks and the store's clock go on.
      const clock = yield* Clock.Clock
      let paused = 0
      const jumping: Clock.Clock = {
        ...clock,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + BigInt(paused) * 1_000_000n,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + paused,
        sleep: (duration) => clock.sleep(duration)
      }
      const grants = yield* Queue.unbounded<void | FencingToken>()
      const calls: Array<Call> = []
      const places: Array<FencingToken> = []
      const replace: Replace = (real) => ({
        tryAcquire: (...args) =>
          Effect.tap(real.tryAcquire(...args), (answer) =>
            Effect.sync(() => {
              if (typeof answer === "object") places.push(answer.fencingToken!)
            })),
        onPermitsReleased: () => Stream.fromQueue(grants)
      })
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "30 seconds" })
        yield* start(semaphore.withPermits(1)(Effect.never))
        const waiter = yield* start(semaphore.withPermits(1)(tokenOf))
        yield* Queue.offer(grants, undefined)
        yield* TestClock.adjust(0)
        paused = Duration.toMillis("1 minute")
        yield* Queue.offer(grants, places[1]!)
        yield* TestClock.adjust("5 seconds")
        // The place had expired, and so had the first hold: the new place is a hold at once.
        expect(places).toHaveLength(3)
        expect(yield* Fiber.join(waiter)).toBe(places[2])
      }).pipe(Effect.provideService(Clock.Clock, jumping), Effect.provide(FakeBacking.layer(calls, replace)))
    }))

  test(
    "that was missed while the subscription was down is found as soon as it stands again, by one request for all waiters",
    (real) => ({
      onPermitsReleased: (key) =>
        Stream.concat(
          Stream.take(real.onPermitsReleased!(key), 1),
          // For 100 ms there is no subscription: what is granted meanwhile is missed.
          Stream.unwrap(Effect.as(Effect.sleep("100 millis"), real.onPermitsReleased!(key)))
        )
    }),
    (semaphore, calls) =>
      Effect.gen(function*() {
        const holder = yield* start(semaphore.withPermits(1)(Effect.never))
        const waiters = yield* Effect.forEach([1, 2, 3], () => start(semaphore.withPermits(1)(Effect.void)))
        const before = counts(calls)
        yield* Fiber.interrupt(holder)
        yield* TestClock.adjust("99 millis")
        expect(waiters.map((waiter) => waiter.pollUnsafe())).toEqual([undefined, undefined, undefined])
        yield* TestClock.adjust("1 millis")
        yield* Fiber.joinAll(waiters)
        expect(counts(calls)).toEqual({ ...before, release: 4, refreshAll: 1 })
      })
  )
})

describe("a place", () => {
  test(
    "is renewed as long as its waiter waits, together with all others",
    () => ({}),
    (semaphore, calls) =>
      Effect.gen(function*() {
        yield* start(semaphore.withPermits(1)(Effect.sleep("10 minutes")))
        const waiters = yield* Effect.forEach(
          Array.from({ length: 100 }),
          () => start(semaphore.withPermits(1)(Effect.void))
        )
        yield* TestClock.adjust("9 minutes")
        expect((yield* semaphore.inspect).line).toHaveLength(100)
        // All places and the hold each third of the ttl, or a tenth earlier; the first in line once a second, too.
        const { refresh = 0, refreshAll = 0 } = counts(calls)
        expect(refreshAll).toBeLessThanOrEqual(60)
        expect(refresh).toBeLessThanOrEqual(600)
        yield* TestClock.adjust("1 minute")
        yield* Fiber.joinAll(waiters)
      })
  )

  let lost = false
  test(
    "that the store has lost is replaced by a new one at the end of the line",
    (real) => ({
      refresh: (...args) => {
        if (lost) return real.refresh(...args)
        lost = true
        return Effect.as(real.release(args[0], args[1], args[4]), false)
      }
    }),
    (semaphore) =>
      Effect.gen(function*() {
        const holder = yield* start(semaphore.withPermits(1)(Effect.never))
        const waiter = yield* start(semaphore.withPermits(1)(tokenOf))
        const places = (yield* semaphore.inspect).line
        expect(lost).toBe(true)
        expect(places).toHaveLength(1)
        yield* Fiber.interrupt(holder)
        expect(yield* Fiber.join(waiter)).toBe(places[0]!.fencingToken)
      })
  )

  const released: Array<FencingToken | undefined> = []
  test(
    "is given up by its token when its waiter is interrupted",
    (real) => ({
      release: (key, identifier, permits, options) => {
        released.push(options?.fencingToken)
        return real.release(key, identifier, permits, options)
      }
    }),
    (semaphore) =>
      Effect.gen(function*() {
        yield* start(semaphore.withPermits(1)(Effect.never))
        const waiter = yield* start(semaphore.withPermits(1)(Effect.void))
        const places = (yield* semaphore.inspect).line.map(({ fencingToken }) => fencingToken)
        expect(places).toHaveLength(1)
        yield* Fiber.interrupt(waiter)
        expect((yield* semaphore.inspect).line).toHaveLength(0)
        expect(released).toEqual(places)
      })
  )
})

describe("a release that takes effect late", () => {
  let releases = 0
  test(
    "touches no newer hold of the same identifier, however long the store was frozen",
    (real) => ({
      // The store is frozen for five ttl, and its driver can't be interrupted.
      release: (...args) =>
        ++releases === 1
          ? Effect.uninterruptible(Effect.delay(real.release(...args), "150 seconds"))
          : real.release(...args)
    }),
    (semaphore) =>
      Effect.gen(function*() {
        yield* start(semaphore.withPermits(1, { identifier: "cron" })(Effect.void))
        const second = yield* start(semaphore.withPermits(1, { identifier: "cron" })(Effect.never))
        yield* TestClock.adjust("149 seconds")
        expect(yield* semaphore.currentCount).toBe(1)
        yield* TestClock.adjust("2 seconds")
        expect(yield* semaphore.currentCount).toBe(1)
        yield* TestClock.adjust("1 minute")
        expect(second.pollUnsafe()).toBeUndefined()
      })
  )
})
