import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  DistributedSemaphore,
  DistributedSemaphoreBacking,
  Lease,
  LockNotAcquiredError,
  MemoryBacking
} from "../../src/index.ts"
import { start } from "../utils/start.ts"

const test = (name: string, body: Effect.Effect<void, unknown, DistributedSemaphoreBacking | Scope.Scope>) =>
  it.effect(name, () => Effect.provide(body, MemoryBacking.layer))

/** Makes a hold that is never refreshed, as after a crash of its holder. */
const crashed = (key: string, ttl: Duration.Input, limit: number, permits: number) =>
  Effect.gen(function*() {
    const backing = yield* DistributedSemaphoreBacking
    yield* backing.tryAcquire(key, "crashed", Duration.fromInputUnsafe(ttl), limit, permits)
  })

describe("withPermits", () => {
  test(
    "runs the effect under its lease, and releases the permits when it ends",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 5, ttl: "9 seconds" })
      const [count, lease, remaining] = yield* Effect.gen(function*() {
        const lease = yield* Lease
        yield* Effect.sleep("1 second")
        return [yield* semaphore.currentCount, lease, yield* lease.remaining] as const
      }).pipe(
        semaphore.withPermits(2, { identifier: "me" }),
        Effect.forkScoped,
        Effect.tap(TestClock.adjust("1 second")),
        Effect.flatMap(Fiber.join)
      )
      expect(count).toBe(2)
      expect(lease).toMatchObject({ key: "key", identifier: "me", permits: 2 })
      expect(Option.isSome(lease.fencingToken)).toBe(true)
      // The ttl, less the margin of a twentieth, less the second that has passed.
      expect(Duration.toMillis(remaining)).toBe(9000 - 450 - 1000)
      expect(yield* semaphore.currentCount).toBe(0)
    })
  )

  test(
    "the time that a lease has left is in whole milliseconds, rounded down",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "9 seconds" })
      const lease = yield* semaphore.takeLease(1)
      yield* TestClock.adjust(Duration.micros(1500n))
      expect(Duration.toMillis(yield* lease.remaining)).toBe(9000 - 450 - 2)
    })
  )

  test(
    "releases when the effect fails, dies or is interrupted",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      for (const end of [Effect.fail("failure"), Effect.die("defect"), Effect.interrupt]) {
        const exit = yield* Effect.exit(semaphore.withPermits(1)(end))
        expect(Exit.isFailure(exit)).toBe(true)
        expect(yield* semaphore.currentCount).toBe(0)
      }
    })
  )

  test(
    "gives out as many permits as the limit says, and never more",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 3 })
      let out = 0
      let most = 0
      const worker = Effect.gen(function*() {
        most = Math.max(most, ++out)
        yield* Effect.sleep("10 millis")
        out--
      })
      const workers = yield* start(
        Effect.all(Array.from({ length: 20 }, () => semaphore.withPermits(1)(worker)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("70 millis")
      yield* Fiber.join(workers)
      expect(most).toBe(3)
    })
  )

  test(
    "keeps the hold for many times the ttl",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "3 seconds" })
      const work = yield* start(semaphore.withPermits(1)(Effect.sleep("1 minute")))
      yield* TestClock.adjust("59 seconds")
      expect(yield* semaphore.currentCount).toBe(1)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(work)
    })
  )
})

describe("order", () => {
  test(
    "100 waiters acquire in the order in which they began to wait",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      const order: Array<number> = []
      const workers = yield* start(Effect.forEach(
        Array.from({ length: 100 }, (_, index) => index),
        (index) =>
          semaphore.withPermits(1)(Effect.andThen(Effect.sync(() => order.push(index)), Effect.sleep("1 second"))),
        { concurrency: "unbounded" }
      ))
      yield* TestClock.adjust("100 seconds")
      yield* Fiber.join(workers)
      expect(order).toEqual(Array.from({ length: 100 }, (_, index) => index))
    })
  )

  test(
    "a request for all permits gets its turn among a stream of small ones",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 5 })
      const order: Array<string> = []
      const request = (name: string, permits: number) =>
        start(
          semaphore.withPermits(permits)(
            Effect.andThen(Effect.sync(() => order.push(name)), Effect.sleep("1 second"))
          )
        )
      for (const name of ["a", "b", "c"]) yield* request(name, 1)
      yield* request("all", 5)
      for (const name of ["d", "e"]) yield* request(name, 1)
      expect(order).toEqual(["a", "b", "c"])
      yield* TestClock.adjust("1 second")
      expect(order).toEqual(["a", "b", "c", "all"])
      yield* TestClock.adjust("1 second")
      expect(order).toEqual(["a", "b", "c", "all", "d", "e"])
    })
  )

  test(
    "tryTake overtakes no waiter, and leaves nothing behind when it is refused",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      yield* start(semaphore.withPermits(1)(Effect.never))
      yield* start(semaphore.withPermits(2)(Effect.never))
      expect(yield* semaphore.tryTake(1)).toEqual(Option.none())
      const { holders, line } = yield* semaphore.inspect
      expect([holders.length, line.length]).toEqual([1, 1])
    })
  )

  test(
    "tokens rise with each acquisition",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      const token = Lease.pipe(
        Effect.flatMap((lease) => Effect.fromOption(lease.fencingToken)),
        semaphore.withPermits(1)
      )
      const tokens = yield* Effect.all([token, token, token])
      expect(tokens).toEqual(tokens.toSorted((a, b) => Number(a - b)))
      expect(new Set(tokens).size).toBe(3)
    })
  )
})

describe("acquiring", () => {
  test(
    "by take, tryTake and takeLease holds until the scope closes",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 3 })
      const scope = yield* Scope.make()
      yield* Scope.provide(semaphore.take(1), scope)
      expect(Option.isSome(yield* Scope.provide(semaphore.tryTake(1), scope))).toBe(true)
      const lease = yield* Scope.provide(semaphore.takeLease(1), scope)
      expect(yield* semaphore.currentCount).toBe(3)
      expect(yield* Scope.provide(semaphore.tryTake(1), scope)).toEqual(Option.none())
      yield* Scope.close(scope, Exit.void)
      expect(yield* semaphore.currentCount).toBe(0)
      expect(lease.keepAlive.pollUnsafe()).toBeDefined()
    })
  )

  test(
    "by withPermitsIfAvailable runs the effect only if permits are available",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      const nested = semaphore.withPermitsIfAvailable(1)(semaphore.withPermitsIfAvailable(1)(Effect.succeed("inner")))
      expect(yield* nested).toEqual(Option.some(Option.none()))
    })
  )

  test(
    "with acquiredExternally resumes a hold that exists, and does not wait for one that does not",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "3 seconds" })
      const resume = { identifier: "crashed", acquiredExternally: true }
      yield* crashed("key", "3 seconds", 1, 1)

      const resumed = yield* start(
        Effect.gen(function*() {
          const lease = yield* Lease
          yield* Effect.sleep("10 seconds")
          return Option.isSome(lease.fencingToken)
        }).pipe(semaphore.withPermits(1, resume))
      )
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(resumed)).toBe(true)
      expect(yield* semaphore.currentCount).toBe(0)

      expect(yield* Effect.flip(semaphore.take(1, resume))).toEqual(
        new LockNotAcquiredError({ key: "key", identifier: "crashed" })
      )
      expect(yield* semaphore.tryTake(1, resume)).toEqual(Option.none())
    })
  )

  test(
    "with acquiredExternally resumes no hold of fewer permits, and leaves it to whoever holds it",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 3, ttl: "3 seconds" })
      const resume = { identifier: "crashed", acquiredExternally: true }
      yield* crashed("key", "3 seconds", 3, 2)

      expect(yield* Effect.flip(semaphore.withPermits(3, resume)(Effect.void))).toEqual(
        new LockNotAcquiredError({ key: "key", identifier: "crashed" })
      )
      expect(yield* semaphore.tryTake(3, resume)).toEqual(Option.none())
      expect(yield* semaphore.currentCount).toBe(2)
      expect(yield* semaphore.withPermitsIfAvailable(2, resume)(Effect.succeed("resumed"))).toEqual(
        Option.some("resumed")
      )
      expect(yield* semaphore.currentCount).toBe(0)
    })
  )
})

describe("waiting", () => {
  test(
    "ends when the acquireRetryPolicy ends, and leaves no place in line",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", {
        acquireRetryPolicy: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 3 }))
      })
      yield* start(semaphore.withPermits(1)(Effect.never))
      const waiter = yield* start(Effect.exit(semaphore.withPermits(1)(Effect.void)))
      yield* TestClock.adjust("2 seconds")
      expect((yield* semaphore.inspect).line).toHaveLength(1)
      yield* TestClock.adjust("1 second")
      expect(Option.getOrThrow(Exit.findErrorOption(yield* Fiber.join(waiter)))._tag).toBe("LockNotAcquiredError")
      expect((yield* semaphore.inspect).line).toEqual([])
    })
  )

  test(
    "keeps the place, although the pauses of the policy are longer than a place lasts",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", {
        ttl: "3 seconds",
        acquireRetryPolicy: Schedule.spaced("1 hour")
      })
      yield* start(semaphore.withPermits(1)(Effect.sleep("1 minute")))
      const waiter = yield* start(semaphore.withPermits(1)(Effect.void))
      yield* TestClock.adjust("59 seconds")
      expect((yield* semaphore.inspect).line).toHaveLength(1)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiter)
    })
  )

  test(
    "can be limited in time by Effect.timeout",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      yield* start(semaphore.withPermits(1)(Effect.never))
      const waiter = yield* start(Effect.flip(Effect.timeout(semaphore.withPermits(1)(Effect.void), "5 seconds")))
      yield* TestClock.adjust("5 seconds")
      expect((yield* Fiber.join(waiter))._tag).toBe("TimeoutError")
      expect((yield* semaphore.inspect).line).toEqual([])
    })
  )

  test(
    "lasts at most a ttl after the crash of a holder",
    Effect.gen(function*() {
      yield* crashed("key", "3 seconds", 1, 1)
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "1 minute" })
      const waiter = yield* start(semaphore.withPermits(1)(Effect.void))
      yield* TestClock.adjust("2999 millis")
      expect(waiter.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(waiter)
    })
  )

  test(
    "lasts at most a ttl after the crash of a waiter ahead",
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "1 minute" })
      const backing = yield* DistributedSemaphoreBacking
      const holder = yield* start(semaphore.withPermits(1)(Effect.never))
      yield* backing.tryAcquire("key", "crashed", Duration.seconds(3), 1, 1, { queue: true })
      const waiter = yield* start(semaphore.withPermits(1)(Effect.void))
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust("2999 millis")
      expect(waiter.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(waiter)
    })
  )
})
