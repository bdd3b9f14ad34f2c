/** A fiber that asks for permits which only it could give back. */
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

describe("a fiber that works under permits of a key, and asks for more than the others", () => {
  test("dies with a message that says so, and what it held is given back", (semaphore) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(semaphore.withPermits(1)(Effect.void).pipe(semaphore.withPermits(3)))
      expect(defectOf(exit)).toMatchObject({
        _tag: "IllegalArgumentError",
        message:
          "permits is 1, but must be at most 0 of 3, because this fiber holds the others: it would wait for itself"
      })
      expect(yield* semaphore.currentCount).toBe(0)
    }))

  test("dies when it holds them by several leases, and when it would hold them by a scope", (semaphore) =>
    Effect.gen(function*() {
      const third = Effect.scoped(semaphore.take(2)).pipe(semaphore.withPermits(1), semaphore.withPermits(1))
      expect(String(defectOf(yield* Effect.exit(third)))).toContain("at most 1 of 3")
    }))

  test("dies when it asks under the name of its own hold", (semaphore) =>
    Effect.gen(function*() {
      const nested = semaphore.withPermits(1, { identifier: "me" })(Effect.void).pipe(
        semaphore.withPermits(1, { identifier: "me" })
      )
      expect(String(defectOf(yield* Effect.exit(nested)))).toContain("identifier is \"me\", but must be another")
    }))
})

describe("a fiber that works under permits of a semaphore, and asks another of its key", () => {
  test("dies when the smaller limit leaves none", (semaphore) =>
    Effect.gen(function*() {
      const larger = yield* DistributedSemaphore.make("key", { limit: 5 })
      const exit = yield* Effect.exit(larger.withPermits(1)(Effect.void).pipe(semaphore.withPermits(3)))
      expect(String(defectOf(exit))).toContain("at most 0 of 3")
    }).pipe(Effect.provide(MemoryBacking.layer)))
})

describe("a fiber that works under permits of a key", () => {
  test("acquires more of them while there are enough", (semaphore) =>
    Effect.gen(function*() {
      const inside = semaphore.currentCount.pipe(
        semaphore.withPermits(1),
        semaphore.withPermits(1),
        semaphore.withPermits(1)
      )
      expect(yield* inside).toBe(3)
    }))

  test("is told None by tryTake, which does not wait", (semaphore) =>
    Effect.gen(function*() {
      const refused = semaphore.withPermitsIfAvailable(1)(Effect.void).pipe(semaphore.withPermits(3))
      expect(yield* refused).toEqual(Option.none())
    }))

  test("may wait for permits of another key, or with a time limit", (semaphore) =>
    Effect.gen(function*() {
      const other = yield* DistributedSemaphore.make("other")
      yield* other.withPermits(1)(Effect.void).pipe(semaphore.withPermits(3))
      const limited = yield* start(
        Effect.timeoutOption(semaphore.withPermits(1)(Effect.void), "1 second").pipe(semaphore.withPermits(3))
      )
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.join(limited)).toEqual(Option.none())
    }).pipe(Effect.scoped, Effect.provide(MemoryBacking.layer)))

  test("may fork one that waits for it to end", (semaphore) =>
    Effect.gen(function*() {
      const child = yield* semaphore.withPermits(3)(
        Effect.forkDetach(semaphore.withPermits(3)(Effect.succeed("done")), { startImmediately: true })
      )
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(child)).toBe("done")
    }))
})
