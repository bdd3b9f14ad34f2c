/** A store or its driver misbehaves: nothing that an earlier holder leaves harms a later one. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, Exit, Fiber, Layer, Option, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  DistributedSemaphore,
  DistributedSemaphoreBacking,
  FencingToken,
  MemoryBacking,
  SemaphoreBackingError
} from "../../src/index.ts"
import type { Backing as Contract } from "../../src/index.ts"
import type { Call, Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import * as Fibers from "../utils/fibers.ts"
import { start } from "../utils/start.ts"
import { test } from "../utils/withFakeBacking.ts"

type Backing = DistributedSemaphoreBacking

const operations = (calls: Array<Call>) => calls.map(({ operation }) => operation)

describe("a refresh that can't be interrupted and never ends", () => {
  let refreshes = 0
  test(
    "neither delays the release, nor blocks the identifier",
    (real) => ({ refresh: (...args) => ++refreshes === 1 ? FakeBacking.hangs : real.refresh(...args) }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const work = yield* start(semaphore.withPermits(1, { identifier: "x" })(Effect.sleep("1 minute")))
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(work)
        expect(yield* semaphore.currentCount).toBe(0)
        expect(Option.isSome(yield* semaphore.tryTake(1, { identifier: "x" }))).toBe(true)
      })
  )
})

describe("an acquire", () => {
  const uninterruptibly = (delay: Duration.Input): Replace => {
    let asked = 0
    return (real) => ({
      tryAcquire: (...args) =>
        ++asked === 1
          ? Effect.uninterruptible(Effect.delay(real.tryAcquire(...args), delay))
          : real.tryAcquire(...args)
    })
  }

  test(
    "that takes effect long after its interruption is released then",
    uninterruptibly("20 seconds"),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "30 seconds" })
        const waiter = yield* start(semaphore.withPermits(1)(Effect.never))
        const interruption = yield* start(Fiber.interrupt(waiter))
        yield* TestClock.adjust("500 millis")
        yield* Fiber.join(interruption)
        yield* TestClock.adjust("20 seconds")
        expect(yield* semaphore.currentCount).toBe(0)
      })
  )

  const landsLate = uninterruptibly("10 seconds")
  let releases = 0
  test(
    "that takes effect late is released then, although the first release has failed",
    (real) => ({
      ...landsLate(real),
      release: (...args) =>
        ++releases === 1
          ? Effect.fail(new SemaphoreBackingError({ operation: "release", cause: "down" }))
          : real.release(...args)
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { backingFailureRetryPolicy: Schedule.recurs(0) })
        const waiter = yield* start(semaphore.withPermits(1)(Effect.never))
        yield* start(Fiber.interrupt(waiter))
        yield* TestClock.adjust("11 seconds")
        expect(yield* semaphore.currentCount).toBe(0)
      })
  )

  let attempts = 0
  test(
    "whose first attempt took effect but lost its reply is released when the next attempt is refused",
    (real) => ({
      tryAcquire: (...args) => {
        const failure = new SemaphoreBackingError({ operation: "tryAcquire", cause: "reply lost" })
        return ++attempts === 1 ? Effect.andThen(real.tryAcquire(...args), Effect.fail(failure)) : Effect.succeed(false)
      }
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const refused = yield* start(Effect.scoped(semaphore.tryTake(1)))
        yield* TestClock.adjust("1 second")
        expect(yield* Fiber.join(refused)).toEqual(Option.none())
        expect(yield* semaphore.currentCount).toBe(0)
      })
  )

  it.effect("whose answer arrives when its lease is over already is sent again", () => {
    // The process is paused between sending and reading: its timers fire late, its clocks go on.
    let paused = 0
    let asked = 0
    return Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const jumping: Clock.Clock = {
        ...clock,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + BigInt(paused) * 1_000_000n,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + paused,
        sleep: (duration) => clock.sleep(duration)
      }
      const pausing: Replace = (real) => ({
        tryAcquire: (...args) =>
          Effect.tap(real.tryAcquire(...args), () =>
            Effect.sync(() => {
              if (++asked === 1) paused = 20_000
            }))
      })
      const work = yield* Effect.flatMap(
        DistributedSemaphore.make("key", { ttl: "20 seconds" }),
        (semaphore) => start(semaphore.withPermits(1)(Effect.never))
      ).pipe(Effect.provide(FakeBacking.layer([], pausing)), Effect.provideService(Clock.Clock, jumping))
      expect(work.pollUnsafe()).toBeUndefined()
      expect(asked).toBe(2)
    })
  })

  it.effect("fails with the error of the store when the policy ends, and is followed by a release", () => {
    const calls: Array<Call> = []
    const refused = new SemaphoreBackingError({ operation: "tryAcquire", cause: "refused" })
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { backingFailureRetryPolicy: Schedule.recurs(2) })
      expect(yield* Effect.flip(semaphore.withPermits(1)(Effect.void))).toBe(refused)
      expect(calls.map(({ operation }) => operation)).toEqual(["tryAcquire", "tryAcquire", "tryAcquire", "release"])
    }).pipe(Effect.provide(FakeBacking.layer(calls, () => ({ tryAcquire: () => Effect.fail(refused) }))))
  })

  it.effect("gives up after about one ttl, by default, if the store does not answer", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "20 seconds" })
      const waiter = yield* Effect.forkScoped(Effect.flip(semaphore.withPermits(1)(Effect.void)), {
        startImmediately: true
      })
      yield* TestClock.adjust("31 seconds")
      const error = yield* Fiber.join(waiter)
      expect(error).toMatchObject({ _tag: "SemaphoreBackingError", operation: "tryAcquire" })
      expect(Cause.isTimeoutError((error as SemaphoreBackingError).cause)).toBe(true)
    }).pipe(Effect.provide(FakeBacking.layer([], () => ({ tryAcquire: () => FakeBacking.hangs })))))
})

describe("an operation that the store never answers is not left running:", () => {
  const never: ReadonlyArray<
    readonly [keyof Backing, (semaphore: DistributedSemaphore.DistributedSemaphore) => Effect.Effect<unknown, unknown>]
  > = [
    ["getCount", (semaphore) => semaphore.currentCount],
    ["inspect", (semaphore) => semaphore.inspect],
    ["release", (semaphore) => semaphore.withPermits(1)(Effect.void)],
    ["refresh", (semaphore) => semaphore.withPermits(1)(Effect.never)],
    ["refresh", (semaphore) => semaphore.withPermits(1, { identifier: "x", acquiredExternally: true })(Effect.void)],
    ["tryAcquire", (semaphore) => semaphore.withPermits(1)(Effect.void)]
  ]
  it.effect.each(never)("%s", ([operation, use]) =>
    Fibers.counted((running) =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { limit: 10, ttl: "10 seconds" })
        const before = running()
        const uses = yield* Effect.forEach(
          Array.from({ length: 10 }),
          () => Effect.forkChild(Effect.timeoutOption(use(semaphore), "5 seconds"), { startImmediately: true })
        )
        yield* TestClock.adjust("2 minutes")
        yield* Effect.forEach(uses, Fiber.await)
        expect(running()).toBe(before)
      }).pipe(Effect.provide(FakeBacking.layer([], () => ({ [operation]: () => Effect.never }))))
    ))
})

describe("a lease", () => {
  test(
    "is kept on a store that answers nearly as late as an attempt may",
    (real) => ({
      tryAcquire: (...args) => Effect.delay(real.tryAcquire(...args), "700 millis"),
      refresh: (...args) => Effect.delay(real.refresh(...args), "700 millis")
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "3 seconds" })
        const work = yield* start(semaphore.withPermits(1)(Effect.never))
        yield* TestClock.adjust("1 minute")
        expect(work.pollUnsafe()).toBeUndefined()
        // A refresh is in flight, so the interruption needs time to end.
        yield* start(Fiber.interrupt(work))
        yield* TestClock.adjust("1 second")
      })
  )

  let refreshes = 0
  test(
    "is released at once, although one of its refreshes was never answered",
    (real) => ({ refresh: (...args) => ++refreshes === 1 ? Effect.never : real.refresh(...args) }),
    (calls) =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const work = yield* start(semaphore.withPermits(1)(Effect.sleep("1 minute")))
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(work)
        expect(operations(calls).at(-1)).toBe("release")
        expect(yield* semaphore.currentCount).toBe(0)
      })
  )

  test(
    "has no time remaining once its scope has closed",
    () => ({}),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const lease = yield* Effect.scoped(semaphore.takeLease(1))
        expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
      })
  )

  test(
    "ends with a SemaphoreBackingError when the client of the store interrupts the refresh",
    () => ({ refresh: () => Effect.interrupt }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { backingFailureRetryPolicy: Schedule.recurs(0) })
        const work = yield* start(Effect.flip(semaphore.withPermits(1)(Effect.never)))
        yield* TestClock.adjust("10 seconds")
        expect(yield* Fiber.join(work)).toMatchObject({ _tag: "SemaphoreBackingError", operation: "refresh" })
      })
  )

  test(
    "that ends with the error of the store fails its caller at once, although the release hangs",
    () => ({
      refresh: () => Effect.fail(new SemaphoreBackingError({ operation: "refresh", cause: "down" })),
      release: () => FakeBacking.hangs
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", {
          ttl: "3 seconds",
          backingFailureRetryPolicy: Schedule.recurs(0)
        })
        const work = yield* start(semaphore.withPermits(1)(Effect.never))
        yield* TestClock.adjust("1 second")
        expect(Exit.isFailure(work.pollUnsafe() ?? Exit.void)).toBe(true)
      })
  )
})

describe("a waiter", () => {
  const asks = (calls: Array<Call>) =>
    operations(calls).filter((operation) => operation === "tryAcquire" || operation === "refresh").length

  /** Answers every request with a place that is never granted. */
  const place = (answer: (holderId: string) => Partial<Contract.Waiting>) => {
    const wait = (_key: string, holderId: string) =>
      Effect.succeed({ _tag: "Waiting" as const, fencingToken: FencingToken(1n), position: 0, ...answer(holderId) })
    return { tryAcquire: wait, refresh: wait, onPermitsReleased: undefined }
  }

  const policies: ReadonlyArray<readonly [string, Schedule.Schedule<unknown>, asks: number]> = [
    ["recurs(0)", Schedule.recurs(0), 1],
    ["recurs(3)", Schedule.recurs(3), 4],
    ["spaced, 3 times", Schedule.spaced("100 millis").pipe(Schedule.upTo({ times: 3 })), 4]
  ]
  for (const [name, policy, expected] of policies) {
    for (const answerAfter of [0, 250]) {
      test(
        `asks as often as its policy says: ${name}, answered after ${answerAfter} ms`,
        () => ({ tryAcquire: () => Effect.delay(Effect.succeed(false), answerAfter), onPermitsReleased: undefined }),
        (calls) =>
          Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make("key", { acquireRetryPolicy: policy })
            const waiter = yield* start(Effect.flip(semaphore.withPermits(1)(Effect.void)))
            yield* TestClock.adjust("10 seconds")
            expect((yield* Fiber.join(waiter))._tag).toBe("LockNotAcquiredError")
            expect(asks(calls)).toBe(expected)
          })
      )
    }
  }

  test(
    "asks at most every 10 ms, although its backing says to ask again at once",
    () => place(() => ({ retryAfter: Duration.zero })),
    (calls) =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        yield* start(semaphore.withPermits(1)(Effect.void))
        yield* TestClock.adjust("1 second")
        expect(asks(calls)).toBeLessThanOrEqual(101)
      })
  )

  test(
    "asks less often the further back it stands, but often enough to keep its place",
    () => place((holderId) => ({ position: Number(holderId) })),
    (calls) =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "3 seconds" })
        for (const identifier of ["0", "4", "1000"]) yield* start(semaphore.withPermits(1, { identifier })(Effect.void))
        yield* TestClock.adjust("10 seconds")
        // The last one is refreshed together with the others, a little earlier than it must be.
        const asksOf = (id: string) => calls.filter(({ holderId }) => holderId === id).length
        expect([asksOf("0"), asksOf("4"), asksOf("1000")]).toEqual([101, 21, 12])
      })
  )

  const streams: ReadonlyArray<readonly [string, () => Stream.Stream<void>]> = [
    ["throws", () => {
      throw new Error("no stream")
    }],
    ["dies", () => Stream.die("broken")],
    ["ends", () => Stream.empty],
    ["never emits", () => Stream.never]
  ]
  for (const [name, onPermitsReleased] of streams) {
    test(
      `polls when its subscription ${name}`,
      (real) => ({
        onPermitsReleased,
        tryAcquire: (...args) =>
          Effect.map(
            real.tryAcquire(...args),
            (answer) =>
              typeof answer === "object" && answer._tag === "Waiting" ? { ...answer, retryAfter: undefined } : answer
          )
      }),
      () =>
        Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key")
          yield* start(semaphore.withPermits(1)(Effect.sleep("1 second")))
          const waiter = yield* start(semaphore.withPermits(1)(Effect.void))
          yield* TestClock.adjust("1100 millis")
          yield* Fiber.join(waiter)
        })
    )
  }
})

describe("a notification that is lost", () => {
  test(
    "delays the first in line by a second at most",
    // What comes after the first signal is lost.
    (real) => ({
      onPermitsReleased: (...args) => Stream.concat(Stream.take(real.onPermitsReleased!(...args), 1), Stream.never)
    }),
    () =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "1 hour" })
        yield* start(semaphore.withPermits(1)(Effect.sleep("10100 millis")))
        const waiter = yield* start(semaphore.withPermits(1)(Effect.void))
        yield* TestClock.adjust("10100 millis")
        expect(waiter.pollUnsafe()).toBeUndefined()
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(waiter)
      })
  )
})

describe("withPermits", () => {
  it.effect("leaves it to its caller to close the scope of the effect that it wraps", () =>
    Effect.gen(function*() {
      const events: Array<string> = []
      const semaphore = yield* DistributedSemaphore.make("key")
      const opened = Effect.acquireRelease(
        Effect.sync(() => events.push("open")),
        () => Effect.sync(() => events.push("close"))
      )
      yield* Effect.scoped(Effect.gen(function*() {
        yield* semaphore.withPermits(1)(opened)
        yield* semaphore.withPermitsIfAvailable(1)(opened)
        events.push("after")
      }))
      expect(events).toEqual(["open", "open", "after", "close", "close"])
    }).pipe(Effect.provide(Layer.fresh(MemoryBacking.layer))))
})
