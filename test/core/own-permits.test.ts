/** A fiber asks for permits that only the fiber itself could release. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"
import { DistributedSemaphore, MemoryBacking } from "../../src/index.ts"
import { start } from "../utils/start.ts"

const semaphore = DistributedSemaphore.make("key", { limit: 3 })

const test = (
  name: string,
  body: (semaphore: DistributedSemaphore.DistributedSemaphore) => Effect.Effect<void, unknown>
) => it.effect(name, () => Effect.flatMap(semaphore, body).pipe(Effect.provide(MemoryBacking.layer)))

const defectOf = (exit: Exit.Exit<unknown, unknown>) => {
  expect(Exit.hasDies(exit)).toBe(true)
  return Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
}

describe("a fiber that holds permits of a key, and asks for more than it leaves to others", () => {
  test("dies with a message that says so, and its hold is released", (semaphore) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(semaphore.withPermits(1)(Effect.void).pipe(semaphore.withPermits(3)))
      expect(defectOf(exit)).toMatchObject({
        _tag: "IllegalArgumentError",
        message:
          "permits is 1, but must be at most 0 of 3, because this fiber holds the others: it would wait for itself"
      })
      expect(yield* semaphore.currentCount).toBe(0)
    }))

  test("dies also when it holds them by several leases, and asks by take", (semaphore) =>
    Effect.gen(function*() {
      const third = Effect.scoped(semaphore.take(2)).pipe(semaphore.withPermits(1), semaphore.withPermits(1))
      expect(String(defectOf(yield* Effect.exit(third)))).toContain("at most 1 of 3")
    }))

  test("dies when it asks under the identifier of its own hold", (semaphore) =>
    Effect.gen(function*() {
      const nested = semaphore.withPermits(1, { identifier: "me" })(Effect.void).pipe(
        semaphore.withPermits(1, { identifier: "me" })
      )
      expect(String(defectOf(yield* Effect.exit(nested)))).toContain("identifier is \"me\", but must be another")
    }))
})

describe("a fiber that holds permits of a semaphore, and asks another semaphore of the same key", () => {
  test("dies when the smaller of the two limits leaves none", (semaphore) =>
    Effect.gen(function*() {
      const larger = yield* DistributedSemaphore.make("key", { limit: 5 })
      const exit = yield* Effect.exit(larger.withPermits(1)(Effect.void).pipe(semaphore.withPermits(3)))
      expect(String(defectOf(exit))).toContain("at most 0 of 3")
    }).pipe(Effect.provide(MemoryBacking.layer)))
})

describe("a fiber that holds permits of a key", () => {
  test("acquires more of them while enough are left", (semaphore) =>
    Effect.gen(function*() {
      const inside = semaphore.currentCount.pipe(
        semaphore.withPermits(1),
        semaphore.withPermits(1),
        semaphore.withPermits(1)
      )
      expect(yield* inside).toBe(3)
    }))

  test("gets None from withPermitsIfAvailable, which does not wait", (semaphore) =>
    Effect.gen(function*() {
      const refused = semaphore.withPermitsIfAvailable(1)(Effect.void).pipe(semaphore.withPermits(3))
      expect(yield* refused).toEqual(Option.none())
    }))

  test("may wait for permits of another key, and, with a time limit, for its own", (semaphore) =>
    Effect.gen(function*() {
      const other = yield* DistributedSemaphore.make("other")
      yield* other.withPermits(1)(Effect.void).pipe(semaphore.withPermits(3))
      const limited = yield* start(
        Effect.timeoutOption(semaphore.withPermits(1)(Effect.void), "1 second").pipe(semaphore.withPermits(3))
      )
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.join(limited)).toEqual(Option.none())
    }).pipe(Effect.scoped, Effect.provide(MemoryBacking.layer)))

  test("may fork a fiber that waits for its permits", (semaphore) =>
    Effect.gen(function*() {
      const child = yield* semaphore.withPermits(3)(
        Effect.forkDetach(semaphore.withPermits(3)(Effect.succeed("done")), { startImmediately: true })
      )
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(child)).toBe("done")
    }))
})
