/** Two acquisitions under one identifier in one process: the second waits. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Scheduler } from "effect"
import { TestClock } from "effect/testing"
import { DistributedSemaphore } from "../../src/index.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { named, test } from "../utils/identified.ts"
import { start } from "../utils/start.ts"

describe("an acquisition under an identifier in use", () => {
  test("waits until the earlier one is released, although permits are free", (semaphore) =>
    Effect.gen(function*() {
      let inside = 0
      let most = 0
      const work = Effect.acquireUseRelease(
        Effect.sync(() => most = Math.max(most, ++inside)),
        () => Effect.sleep("1 minute"),
        () => Effect.sync(() => inside--)
      )
      const fibers = yield* Effect.forEach([1, 2, 3], () => start(semaphore.withPermits(1, named)(work)))
      yield* TestClock.adjust("90 seconds")
      expect([most, inside, yield* semaphore.currentCount]).toEqual([1, 1, 1])
      yield* TestClock.adjust("2 minutes")
      yield* Fiber.joinAll(fibers)
      expect(most).toBe(1)
    }))

  test("asks the store nothing while it waits, and can be interrupted", (semaphore, calls) =>
    Effect.gen(function*() {
      yield* start(semaphore.withPermits(1, named)(Effect.never))
      const asked = calls.length
      const second = yield* start(semaphore.withPermits(1, named)(Effect.never))
      yield* Fiber.interrupt(second)
      expect(calls.slice(asked).map(({ operation }) => operation)).toEqual([])
      expect(yield* semaphore.currentCount).toBe(1)
    }))

  test("is refused by tryTake and withPermitsIfAvailable", (semaphore) =>
    Effect.gen(function*() {
      yield* semaphore.take(1, named)
      expect(yield* semaphore.tryTake(1, named)).toEqual(Option.none())
      expect(yield* semaphore.withPermitsIfAvailable(1, named)(Effect.void)).toEqual(Option.none())
      expect(yield* semaphore.currentCount).toBe(1)
    }))

  test("succeeds once the earlier acquisition was refused or interrupted", (semaphore) =>
    Effect.gen(function*() {
      const all = yield* start(semaphore.withPermits(2)(Effect.never))
      expect(yield* semaphore.tryTake(1, named)).toEqual(Option.none())
      const waiter = yield* start(semaphore.withPermits(1, named)(Effect.never))
      yield* Fiber.interrupt(waiter)
      yield* Fiber.interrupt(all)
      expect(Option.isSome(yield* semaphore.tryTake(1, named))).toBe(true)
    }))

  test("does not wait for the same identifier of another key", (semaphore) =>
    Effect.gen(function*() {
      yield* semaphore.take(1, named)
      expect(semaphore.key).toBe("key")
      const other = yield* DistributedSemaphore.make("other")
      expect(Option.isSome(yield* other.tryTake(1, named))).toBe(true)
    }).pipe(Effect.provide(FakeBacking.layer([]))))
})

describe("an acquisition that waits for its identifier", () => {
  it.effect("notices that it is free, whichever step it had come to", () =>
    Effect.gen(function*() {
      for (let turns = 0; turns < 80; turns++) {
        const semaphore = yield* DistributedSemaphore.make(`key ${turns}`)
        const first = yield* Effect.forkScoped(semaphore.withPermits(1, named)(Effect.never))
        yield* Effect.yieldNow
        // It gives others their turn after each step.
        const second = yield* Effect.forkScoped(
          Effect.provideService(semaphore.withPermits(1, named)(Effect.succeed("done")), Scheduler.MaxOpsBeforeYield, 3)
        )
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
        yield* Fiber.interrupt(first)
        for (let turn = 0; turn < 300; turn++) yield* Effect.yieldNow
        expect([turns, second.pollUnsafe()]).toEqual([turns, Exit.succeed("done")])
      }
    }).pipe(Effect.provide(FakeBacking.layer([]))))
})

describe("an identifier whose lease was lost", () => {
  const losses: ReadonlyArray<readonly [reason: string, refresh: () => Effect.Effect<false>]> = [
    ["revoked", () => Effect.succeed(false)],
    ["unreachable", () => FakeBacking.hangs]
  ]
  it.effect.each(losses)(
    "as %s can be used again when the lease is over, although its scope is still open",
    ([reason, refresh]) => {
      let refreshes = 0
      return Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "30 seconds" })
        const again = yield* start(Effect.gen(function*() {
          const lost = yield* Effect.flip(Fiber.join(yield* semaphore.take(1, named)))
          expect(lost).toMatchObject({ _tag: "LockLostError", reason })
          return yield* semaphore.takeLease(1, named)
        }))
        yield* TestClock.adjust("2 minutes")
        expect(Exit.isSuccess(again.pollUnsafe()!)).toBe(true)
      }).pipe(Effect.provide(FakeBacking.layer([], (real) => ({
        refresh: (...args) => ++refreshes < 5 ? refresh() : real.refresh(...args)
      }))))
    }
  )
})
