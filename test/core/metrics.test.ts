/** Every acquisition is counted, whatever becomes of it: what was acquired was released, was lost, or is held. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Metric, Option, References, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { DistributedSemaphore, DistributedSemaphoreBacking, FencingToken, Lease } from "../../src/index.ts"
import type { Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

type Semaphore = DistributedSemaphore.DistributedSemaphore

const prefix = "distributed_semaphore_"

/** Reads the values of all series but those that are 0, by name and attributes. */
const values = Effect.map(Metric.snapshot, (snapshot) => {
  const found: Record<string, number> = {}
  for (const metric of snapshot) {
    if (!metric.id.startsWith(prefix)) continue
    const { unit: _, ...attributes } = metric.attributes ?? {}
    const tags = Object.entries(attributes).map(([name, value]) => `${name}=${value}`).toSorted()
    const value = metric.type === "Counter" || metric.type === "Histogram"
      ? (metric.state as { readonly count: number }).count
      : (metric.state as { readonly value: number }).value
    if (value !== 0) found[[metric.id.slice(prefix.length), ...tags].join(" ")] = value
  }
  return found
})

const ofAcquired = (acquisitions: number, permits: number) => ({
  acquire_seconds: acquisitions,
  permits_acquired_total: permits
})

type Body = (semaphore: Semaphore) => Effect.Effect<void, unknown, DistributedSemaphoreBacking | Scope.Scope>

const config = { limit: 3, ttl: "30 seconds" } as const

/** Runs the test with a metric registry of its own. */
const test = (
  name: string,
  body: Body,
  replace: Replace = () => ({}),
  more: DistributedSemaphore.DistributedSemaphoreConfig = {}
) =>
  it.effect(name, () =>
    Effect.flatMap(DistributedSemaphore.make("key", { ...config, ...more }), body).pipe(
      Effect.provide(FakeBacking.layer([], replace)),
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Effect.provideService(References.MinimumLogLevel, "Error")
    ))

const hold = (semaphore: Semaphore, permits: number, identifier: string = crypto.randomUUID()) =>
  start(semaphore.withPermits(permits, { identifier })(Effect.never))

describe("an acquisition that", () => {
  test("holds, and then ends, is counted as acquired, held and released", (semaphore) =>
    Effect.gen(function*() {
      const inside = yield* values.pipe(semaphore.withPermits(2))
      expect(inside).toEqual({ ...ofAcquired(1, 2), permits_held: 2 })
      expect(yield* values).toEqual({ ...ofAcquired(1, 2), permits_released_total: 2 })
    }))

  test("fails, dies or is interrupted while it works is counted as released", (semaphore) =>
    Effect.gen(function*() {
      yield* Effect.exit(semaphore.withPermits(1)(Effect.fail("failed")))
      yield* Effect.exit(semaphore.withPermits(1)(Effect.die("died")))
      yield* Fiber.interrupt(yield* hold(semaphore, 1))
      expect(yield* values).toEqual({ ...ofAcquired(3, 3), permits_released_total: 3 })
    }))

  test("waits is counted as a waiter until it holds", (semaphore) =>
    Effect.gen(function*() {
      const holder = yield* hold(semaphore, 3)
      const waiters = [yield* hold(semaphore, 2), yield* hold(semaphore, 1)]
      expect(yield* values).toEqual({ ...ofAcquired(1, 3), permits_held: 3, waiters: 2 })
      yield* TestClock.adjust("5 minutes")
      expect(yield* values).toEqual({ ...ofAcquired(1, 3), permits_held: 3, waiters: 2 })
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust(0)
      expect(yield* values).toEqual({ ...ofAcquired(3, 6), permits_released_total: 3, permits_held: 3 })
      yield* Fiber.interruptAll(waiters)
      expect(yield* values).toEqual({ ...ofAcquired(3, 6), permits_released_total: 6 })
    }))

  test("is interrupted or times out while it waits is not counted as acquired", (semaphore) =>
    Effect.gen(function*() {
      const holder = yield* hold(semaphore, 3)
      yield* Fiber.interrupt(yield* hold(semaphore, 1))
      const late = yield* start(Effect.exit(Effect.timeout(semaphore.withPermits(1)(Effect.void), "5 seconds")))
      expect((yield* values).waiters).toBe(1)
      yield* TestClock.adjust("6 seconds")
      expect(Exit.hasFails(yield* Fiber.join(late))).toBe(true)
      yield* Fiber.interrupt(holder)
      expect(yield* values).toEqual({ ...ofAcquired(1, 3), permits_released_total: 3 })
    }))

  let places = 0
  test(
    "loses its place and takes a new one is counted as one waiter",
    (semaphore) =>
      Effect.gen(function*() {
        const holder = yield* hold(semaphore, 3)
        const waiter = yield* hold(semaphore, 1, "me")
        yield* semaphore.revoke("me")
        yield* TestClock.adjust(0)
        expect(places).toBe(3)
        expect((yield* values).waiters).toBe(1)
        yield* Fiber.interruptAll([waiter, holder])
        expect(yield* values).toEqual({ ...ofAcquired(1, 3), permits_released_total: 3 })
      }),
    (real) => ({
      tryAcquire: (...args) => {
        places++
        return real.tryAcquire(...args)
      }
    })
  )

  test(
    "fails because the store fails is counted nowhere, and no longer as a waiter",
    (semaphore) =>
      Effect.gen(function*() {
        const waiter = yield* hold(semaphore, 1)
        expect((yield* values).waiters).toBe(1)
        yield* TestClock.adjust("30 seconds")
        expect(Exit.hasFails(waiter.pollUnsafe()!)).toBe(true)
        expect(yield* values).toEqual({ refresh_failures_total: 2 })
      }),
    () => ({
      tryAcquire: () => Effect.succeed({ _tag: "Waiting", fencingToken: FencingToken(1n), position: 0 }),
      refresh: () => Effect.fail(FakeBacking.failure("refresh"))
    }),
    { backingFailureRetryPolicy: Schedule.recurs(1) }
  )

  test("does not wait, and finds no permits, is counted as refused", (semaphore) =>
    Effect.gen(function*() {
      yield* hold(semaphore, 2)
      expect(yield* semaphore.tryTake(2)).toEqual(Option.none())
      expect(yield* semaphore.withPermitsIfAvailable(3)(Effect.void)).toEqual(Option.none())
      expect(yield* values).toEqual({ ...ofAcquired(1, 2), permits_held: 2, permits_refused_total: 5 })
    }))

  test(
    "gives up because its policy ends is counted as refused",
    (semaphore) =>
      Effect.gen(function*() {
        yield* hold(semaphore, 3)
        const waiter = yield* start(Effect.flip(semaphore.withPermits(2)(Effect.void)))
        yield* TestClock.adjust("10 seconds")
        expect(yield* Fiber.join(waiter)).toMatchObject({ _tag: "LockNotAcquiredError" })
        expect(yield* values).toEqual({ ...ofAcquired(1, 3), permits_held: 3, permits_refused_total: 2 })
      }),
    () => ({}),
    { acquireRetryPolicy: Schedule.recurs(2) }
  )

  test("belongs to a scope is counted as held until the scope closes", (semaphore) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(Effect.andThen(semaphore.takeLease(1), semaphore.tryTake(1)), scope)
      expect(yield* values).toEqual({ ...ofAcquired(2, 2), permits_held: 2 })
      yield* Scope.close(scope, Exit.void)
      expect(yield* values).toEqual({ ...ofAcquired(2, 2), permits_released_total: 2 })
    }))

  test("resumes a hold with acquiredExternally is counted like any other", (semaphore) =>
    Effect.gen(function*() {
      const backing = yield* DistributedSemaphoreBacking
      yield* backing.tryAcquire("key", "crashed", Duration.seconds(30), 3, 2)
      const options = { identifier: "crashed", acquiredExternally: true }
      const inside = yield* values.pipe(semaphore.withPermits(2, options))
      expect(inside).toEqual({ ...ofAcquired(1, 2), permits_held: 2 })
      yield* Effect.flip(semaphore.withPermits(2, options)(Effect.void))
      expect(yield* semaphore.tryTake(2, options)).toEqual(Option.none())
      expect(yield* values).toEqual({ ...ofAcquired(1, 2), permits_released_total: 2, permits_refused_total: 4 })
    }))

  test("takes over a hold of this process is counted beside it: each of the two ends once", (semaphore) =>
    Effect.gen(function*() {
      const first = yield* hold(semaphore, 2, "job")
      const second = yield* start(
        semaphore.withPermits(2, { identifier: "job", acquiredExternally: true })(Effect.never)
      )
      expect(yield* values).toEqual({ ...ofAcquired(2, 4), permits_held: 4 })
      yield* Fiber.interrupt(second)
      yield* Effect.exit(Fiber.join(first))
      expect(yield* values).toEqual({
        ...ofAcquired(2, 4),
        permits_released_total: 2,
        "permits_lost_total reason=revoked": 2
      })
    }))
})

describe("a hold that is lost", () => {
  test("because an operator revokes it is counted as revoked, not as released", (semaphore) =>
    Effect.gen(function*() {
      const lost = yield* hold(semaphore, 2, "me")
      yield* semaphore.revoke("me")
      yield* TestClock.adjust(0)
      expect(Exit.hasFails(lost.pollUnsafe()!)).toBe(true)
      expect(yield* values).toEqual({ ...ofAcquired(1, 2), "permits_lost_total reason=revoked": 2 })
    }))

  test(
    "because the store is out of reach is counted as unreachable, and its failed refreshes are counted",
    (semaphore) =>
      Effect.gen(function*() {
        yield* hold(semaphore, 2)
        yield* TestClock.adjust("5 minutes")
        expect(yield* values).toEqual({
          ...ofAcquired(1, 2),
          "permits_lost_total reason=unreachable": 2,
          refresh_failures_total: expect.toSatisfy((failures: number) => failures > 3)
        })
      }),
    () => ({ refresh: () => Effect.fail(FakeBacking.failure("refresh")) })
  )

  test(
    "because its policy ends is counted as failed",
    (semaphore) =>
      Effect.gen(function*() {
        yield* hold(semaphore, 2)
        yield* TestClock.adjust("5 minutes")
        expect(yield* values).toEqual({
          ...ofAcquired(1, 2),
          "permits_lost_total reason=failed": 2,
          refresh_failures_total: 1
        })
      }),
    () => ({ refresh: () => Effect.fail(FakeBacking.failure("refresh")) }),
    { backingFailureRetryPolicy: Schedule.recurs(0) }
  )

  test(
    "because its keepalive fiber ended, while its scope stays open, is counted once",
    (semaphore) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const lease = yield* Scope.provide(semaphore.takeLease(1), scope)
        yield* Fiber.interrupt(lease.keepAlive)
        expect((yield* values).permits_held).toBe(1)
        yield* TestClock.adjust("1 minute")
        const lost = { ...ofAcquired(1, 1), "permits_lost_total reason=unreachable": 1 }
        expect(yield* values).toEqual(lost)
        yield* Scope.close(scope, Exit.void)
        expect(yield* values).toEqual(lost)
      })
  )
})

describe("the time to acquire", () => {
  test("is measured in seconds, from the request to the hold", (semaphore) =>
    Effect.gen(function*() {
      yield* start(semaphore.withPermits(3)(Effect.sleep("7 seconds")))
      yield* start(semaphore.withPermits(1)(Effect.void))
      yield* TestClock.adjust("10 seconds")
      const histogram = (yield* Metric.snapshot).find(({ id }) => id === `${prefix}acquire_seconds`)
      expect(histogram?.state).toMatchObject({ count: 2, sum: 7, min: 0, max: 7 })
      expect(histogram?.attributes).toEqual({ unit: "seconds" })
    }))
})

describe("metrics", () => {
  test("exist, with the value 0, as soon as a semaphore is made, so that an alert can compare with it", () =>
    Effect.gen(function*() {
      const snapshot = yield* Metric.snapshot
      expect(new Set(snapshot.map(({ id }) => id.slice(prefix.length)))).toEqual(
        new Set([
          "permits_acquired_total",
          "permits_released_total",
          "permits_lost_total",
          "permits_refused_total",
          "permits_held",
          "waiters",
          "refresh_failures_total"
        ])
      )
      expect(snapshot.filter(({ id }) => id.endsWith("lost_total")).map(({ attributes }) => attributes)).toEqual([
        { reason: "expired" },
        { reason: "revoked" },
        { reason: "unreachable" },
        { reason: "failed" }
      ])
    }))

  test("do not name the key by default, so that keys cost nothing", (semaphore) =>
    Effect.gen(function*() {
      const other = yield* DistributedSemaphore.make("other")
      yield* semaphore.withPermits(1)(Effect.void)
      yield* other.withPermits(1)(Effect.void)
      expect(yield* values).toEqual({ ...ofAcquired(2, 2), permits_released_total: 2 })
    }))

  test(
    "name the key of a semaphore that is made with metricsByKey",
    (semaphore) =>
      Effect.gen(function*() {
        const same = yield* DistributedSemaphore.make("key", { ...config, metricsByKey: true })
        const other = yield* DistributedSemaphore.make("other", { ...config, metricsByKey: true })
        yield* same.withPermits(1)(semaphore.withPermits(1)(Effect.void))
        yield* hold(other, 2, "me")
        yield* other.revoke("me")
        yield* TestClock.adjust(0)
        expect(yield* values).toEqual({
          "acquire_seconds key=key": 2,
          "permits_acquired_total key=key": 2,
          "permits_released_total key=key": 2,
          "acquire_seconds key=other": 1,
          "permits_acquired_total key=other": 2,
          "permits_lost_total key=other reason=revoked": 2
        })
      }),
    () => ({}),
    { metricsByKey: true }
  )

  test("carry the attributes of the fiber that acquires, from the beginning of the hold to its end", (semaphore) =>
    Effect.gen(function*() {
      const tenant = Effect.provideService(Metric.CurrentMetricAttributes, { tenant: "a" })
      const scope = yield* Scope.make()
      yield* tenant(Scope.provide(semaphore.take(1), scope))
      yield* semaphore.withPermits(1)(Effect.void)
      yield* Scope.close(scope, Exit.void)
      expect(yield* values).toEqual({
        ...ofAcquired(1, 1),
        permits_released_total: 1,
        "acquire_seconds tenant=a": 1,
        "permits_acquired_total tenant=a": 1,
        "permits_released_total tenant=a": 1
      })
    }))

  test("balance (acquired = released + lost + held) throughout a contended minute with losses, timeouts and refusals", (semaphore) =>
    Effect.gen(function*() {
      const balance = Effect.gen(function*() {
        const now = yield* values
        const sum = (name: string) =>
          Object.entries(now).filter(([series]) => series.startsWith(name)).reduce((sum, [, value]) => sum + value, 0)
        expect(sum("permits_acquired_total")).toBe(
          sum("permits_released_total") + sum("permits_lost_total") + sum("permits_held")
        )
        expect(sum("permits_held")).toBe(yield* semaphore.currentCount)
        expect(sum("waiters")).toBe((yield* semaphore.inspect).line.length)
        return sum
      })
      const worker = (index: number) =>
        Effect.gen(function*() {
          for (let cycle = 0; cycle < 12; cycle++) {
            const permits = 1 + (index + cycle) % 3
            const revoked = Effect.flatMap(Lease, ({ identifier }) =>
              Effect.andThen(semaphore.revoke(identifier), Effect.never))
            const work = Effect.delay(
              cycle % 5 === 1 ? revoked : Effect.void,
              `${(index * 37 + cycle * 91) % 700} millis`
            )
            const use = cycle % 4 === 3
              ? semaphore.withPermitsIfAvailable(permits)(work)
              : Effect.timeout(semaphore.withPermits(permits)(work), cycle % 3 === 0 ? "1 second" : "20 seconds")
            yield* Effect.exit(use)
          }
        })
      const workers = yield* Effect.forEach(
        Array.from({ length: 10 }, (_, index) => index),
        (index) => start(worker(index))
      )
      for (let step = 0; step < 240; step++) {
        yield* TestClock.adjust("250 millis")
        yield* balance
      }
      yield* Fiber.interruptAll(workers)
      yield* TestClock.adjust(0)
      const sum = yield* balance
      expect([sum("waiters"), sum("permits_held")]).toEqual([0, 0])
      for (const name of ["permits_acquired_total", "permits_lost_total", "permits_refused_total"]) {
        expect(sum(name)).toBeGreaterThan(10)
      }
    }))
})
