/** `semaphore.changes` emits a snapshot of the semaphore after each change. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Schedule, Stream } from "effect"
import type { Scope } from "effect"
import { TestClock } from "effect/testing"
import type { Backing } from "../../src/index.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking } from "../../src/index.ts"
import type { Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

type Semaphore = DistributedSemaphore.DistributedSemaphore

const identifiers = (contenders: ReadonlyArray<Backing.ContenderState>) =>
  contenders.map(({ identifier }) => identifier)

/** Runs `changes`, and records each snapshot as "holders | line". */
const watch = (semaphore: Semaphore) =>
  Effect.gen(function*() {
    const seen: Array<string> = []
    const fiber = yield* start(
      Stream.runForEach(semaphore.changes, ({ holders, line }) =>
        Effect.sync(() => seen.push(`${identifiers(holders)} | ${identifiers(line)}`)))
    )
    return { seen, fiber }
  })

const test = (
  name: string,
  replace: Replace,
  body: (semaphore: Semaphore) => Effect.Effect<void, unknown, DistributedSemaphoreBacking | Scope.Scope>
) =>
  it.effect(
    name,
    () =>
      Effect.flatMap(DistributedSemaphore.make("key", { backingFailureRetryPolicy: Schedule.recurs(1) }), body).pipe(
        Effect.provide(FakeBacking.layer([], replace))
      )
  )

const hold = (semaphore: Semaphore, identifier: string) => start(semaphore.withPermits(1, { identifier })(Effect.never))

let looks = 0

const countLooks: Replace = (real) => ({
  inspect: (key) => {
    looks++
    return real.inspect!(key)
  }
})

describe("the stream of changes", () => {
  test("begins with a snapshot, even if nobody uses the key", () => ({}), (semaphore) =>
    Effect.gen(function*() {
      const { seen } = yield* watch(semaphore)
      expect(seen).toEqual([" | "])
    }))

  test(
    "emits each change within 50 milliseconds if the store notifies of it",
    () => ({}),
    (semaphore) =>
      Effect.gen(function*() {
        const { seen } = yield* watch(semaphore)
        const a = yield* hold(semaphore, "a")
        yield* TestClock.adjust("50 millis")
        const b = yield* hold(semaphore, "b")
        yield* TestClock.adjust("50 millis")
        yield* Fiber.interrupt(a)
        yield* TestClock.adjust("50 millis")
        yield* Fiber.interrupt(b)
        yield* TestClock.adjust("50 millis")
        expect(seen).toEqual([" | ", "a | ", "a | b", "b | ", " | "])
      })
  )

  test(
    "emits each change within a second if the store does not notify",
    () => ({ onChanged: undefined }),
    (semaphore) =>
      Effect.gen(function*() {
        const { seen } = yield* watch(semaphore)
        yield* TestClock.adjust("100 millis")
        yield* hold(semaphore, "a")
        expect(seen).toEqual([" | "])
        yield* TestClock.adjust("900 millis")
        expect(seen).toEqual([" | ", "a | "])
      })
  )

  test(
    "emits an expiry, of which no store notifies, within a second",
    () => ({}),
    (semaphore) =>
      Effect.gen(function*() {
        const backing = yield* DistributedSemaphoreBacking
        yield* backing.tryAcquire("key", "crashed", Duration.millis(1500), 1, 1)
        const { seen } = yield* watch(semaphore)
        yield* TestClock.adjust("1 second")
        expect(seen).toEqual(["crashed | "])
        yield* TestClock.adjust("1 second")
        expect(seen).toEqual(["crashed | ", " | "])
      })
  )

  test(
    "looks at a busy key 20 times a second at most",
    countLooks,
    (semaphore) =>
      Effect.gen(function*() {
        looks = 0
        yield* watch(semaphore)
        for (let millis = 0; millis < 1000; millis += 5) {
          yield* Effect.void.pipe(semaphore.withPermit)
          yield* TestClock.adjust("5 millis")
        }
        expect(looks).toBeGreaterThan(15)
        expect(looks).toBeLessThanOrEqual(22)
      })
  )

  test(
    "emits nothing when only the time left has changed",
    countLooks,
    (semaphore) =>
      Effect.gen(function*() {
        looks = 0
        const { seen } = yield* watch(semaphore)
        yield* hold(semaphore, "a")
        yield* TestClock.adjust("5 minutes")
        expect(seen).toEqual([" | ", "a | "])
        expect(looks).toBeGreaterThan(250)
      })
  )

  test(
    "emits when an identifier releases and acquires again between two looks",
    () => ({}),
    (semaphore) =>
      Effect.gen(function*() {
        const { seen } = yield* watch(semaphore)
        const first = yield* hold(semaphore, "a")
        yield* TestClock.adjust("50 millis")
        yield* Fiber.interrupt(first)
        yield* hold(semaphore, "a")
        yield* TestClock.adjust("50 millis")
        expect(seen.at(-1)).toBe("a | ")
        expect(seen.filter((snapshot) => snapshot === "a | ")).toHaveLength(2)
      })
  )

  let inspected = 0
  test(
    "looks once more for all changes that come during a look",
    (real) => ({
      inspect: (key) => {
        inspected++
        return Effect.tap(real.inspect!(key), () => Effect.sleep("300 millis"))
      }
    }),
    (semaphore) =>
      Effect.gen(function*() {
        const { seen } = yield* watch(semaphore)
        const holders = yield* Effect.forEach(["a", "b", "c", "d"], (identifier) => hold(semaphore, identifier))
        expect(inspected).toBe(1)
        yield* TestClock.adjust("300 millis")
        yield* TestClock.adjust("300 millis")
        expect(seen).toEqual([" | ", "a | b,c,d"])
        expect(inspected).toBe(2)
        yield* Fiber.interruptAll(holders)
      })
  )

  let failures = 0
  test(
    "survives a look that fails, and fails when backingFailureRetryPolicy ends",
    (real) => ({
      inspect: (key) =>
        Effect.suspend(() => {
          failures++
          return failures === 2 || failures > 4 ? Effect.fail(FakeBacking.failure("inspect")) : real.inspect!(key)
        })
    }),
    (semaphore) =>
      Effect.gen(function*() {
        const { fiber, seen } = yield* watch(semaphore)
        yield* hold(semaphore, "a")
        yield* TestClock.adjust("500 millis")
        expect(seen).toEqual([" | ", "a | "])
        yield* TestClock.adjust("10 seconds")
        expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({
          _tag: "SemaphoreBackingError",
          operation: "inspect"
        })
      })
  )

  test(
    "fails if the backing can't be inspected",
    () => ({ inspect: undefined }),
    (semaphore) =>
      Effect.gen(function*() {
        expect(yield* Effect.flip(Stream.runDrain(semaphore.changes))).toMatchObject({ operation: "inspect" })
      })
  )

  test(
    "asks the store nothing once nobody listens",
    countLooks,
    (semaphore) =>
      Effect.gen(function*() {
        looks = 0
        const { fiber } = yield* watch(semaphore)
        const a = yield* hold(semaphore, "a")
        yield* TestClock.adjust("1 minute")
        expect(looks).toBeGreaterThan(1)
        yield* Fiber.interrupt(fiber)
        looks = 0
        yield* Fiber.interrupt(a)
        yield* hold(semaphore, "b")
        yield* TestClock.adjust("1 minute")
        expect(looks).toBe(0)
      })
  )
})
