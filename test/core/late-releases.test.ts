/** A release that takes effect late frees no newer hold of its identifier. */
import { describe, expect } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Option, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease, LockNotAcquiredError } from "../../src/index.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"
import { test } from "../utils/withFakeBacking.ts"

describe("an acquisition that uses an identifier again", () => {
  const landed = Deferred.makeUnsafe<void>()
  let releases = 0
  test(
    "waits until the earlier hold is released, so that a late release does not free the new one",
    (real) => ({
      release: (...args) =>
        ++releases === 1 ? Effect.andThen(Deferred.await(landed), real.release(...args)) : real.release(...args)
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const again = yield* DistributedSemaphore.make("key")
        yield* start(semaphore.withPermits(1, { identifier: "cron" })(Effect.void))
        yield* TestClock.adjust("600 millis")
        const second = yield* start(again.withPermits(1, { identifier: "cron" })(Effect.never))
        yield* TestClock.adjust("100 millis")
        yield* Deferred.succeed(landed, undefined)
        yield* TestClock.adjust(0)
        expect(yield* semaphore.currentCount).toBe(1)
        expect(yield* semaphore.tryTake(1)).toEqual(Option.none())
        expect(second.pollUnsafe()).toBeUndefined()
      })
  )
})

describe("a release that can't be interrupted", () => {
  let late = 0
  test(
    "keeps its identifier in use until it has taken effect, although the retry policy has ended",
    (real) => ({
      release: (...args) =>
        ++late === 1 ? Effect.uninterruptible(Effect.delay(real.release(...args), "12 seconds")) : real.release(...args)
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", {
          ttl: "30 seconds",
          backingFailureRetryPolicy: Schedule.recurs(0)
        })
        let out = 0
        let most = 0
        const work = Effect.acquireUseRelease(
          Effect.sync(() => most = Math.max(most, ++out)),
          () => Effect.sleep("20 seconds"),
          () => Effect.sync(() => out--)
        )
        yield* start(semaphore.withPermits(1, { identifier: "cron" })(Effect.void))
        yield* TestClock.adjust("1 second")
        const next = yield* start(Effect.all(
          [semaphore.withPermits(1, { identifier: "cron" })(work), semaphore.withPermits(1)(work)],
          { concurrency: "unbounded" }
        ))
        yield* TestClock.adjust("2 minutes")
        yield* Fiber.join(next)
        expect(most).toBe(1)
      })
  )
})

describe("a release that failed, but takes effect late", () => {
  let releases = 0
  test(
    "frees no newer hold: its identifier stays in use until the old lease must be over",
    (real) => ({
      release: (...args) => {
        if (++releases > 1) return real.release(...args)
        const landsLate = Effect.forkDetach(Effect.delay(real.release(...args), "2 seconds"))
        return Effect.andThen(landsLate, Effect.fail(FakeBacking.failure("release")))
      }
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { backingFailureRetryPolicy: Schedule.recurs(0) })
        yield* start(semaphore.withPermits(1, { identifier: "cron" })(Effect.void))
        const next = yield* start(semaphore.withPermits(1, { identifier: "cron" })(Effect.never))
        // The ttl, plus the longest time after which an attempt may still take effect.
        yield* TestClock.adjust("34 seconds")
        expect(yield* semaphore.currentCount).toBe(0)
        yield* TestClock.adjust("2 seconds")
        expect(yield* semaphore.currentCount).toBe(1)
        expect(next.pollUnsafe()).toBeUndefined()
      })
  )
})

describe("a release that nobody has confirmed, of a hold that outlives its lease because refreshes come late", () => {
  const named = { identifier: "cron" }
  let isLost = true
  test(
    "frees nothing that the next acquisition of its identifier holds, and that hold can't be resumed",
    (real) => ({ release: (...args) => isLost ? Effect.die("lost") : real.release(...args) }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "30 seconds" })
        const backing = yield* DistributedSemaphoreBacking
        const token = Effect.map(Lease, ({ fencingToken }) => Option.getOrThrow(fencingToken))
        const first = yield* token.pipe(semaphore.withPermits(1, named))
        yield* TestClock.adjust("25 seconds")
        yield* backing.refresh("key", "cron", Duration.minutes(5), 1, 1)
        yield* TestClock.adjust("1 minute")
        isLost = false

        const resumed = semaphore.withPermits(1, { ...named, acquiredExternally: true })(Effect.void)
        expect(yield* Effect.flip(resumed)).toBeInstanceOf(LockNotAcquiredError)

        const second = yield* Deferred.make<bigint>()
        yield* start(
          Effect.andThen(Effect.flatMap(token, (token) => Deferred.succeed(second, token)), Effect.never).pipe(
            semaphore.withPermits(1, named)
          )
        )
        expect(yield* Deferred.await(second)).toBeGreaterThan(first)
        yield* backing.release("key", "cron", 1, { fencingToken: first })
        expect(yield* semaphore.currentCount).toBe(1)
      })
  )
})
