/** Processes that disagree about the limit of a key, as during a deployment: the smallest one counts, and somebody should know. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import type { Scope } from "effect"
import { TestClock } from "effect/testing"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

const test = (
  name: string,
  body: (warnings: ReadonlyArray<string>) => Effect.Effect<void, unknown, DistributedSemaphoreBacking | Scope.Scope>
) =>
  it.effect(name, () => {
    const warnings: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void warnings.push(`${logLevel} ${String(message)}`))
    return Effect.provide(body(warnings), [FakeBacking.layer([]), Logger.layer([logger])])
  })

const semaphore = (limit: number, key = "key") => DistributedSemaphore.make(key, { limit })

const hold = (semaphore: DistributedSemaphore.DistributedSemaphore, permits: number) =>
  start(semaphore.withPermits(permits)(Effect.never))

const warning = (own: number, other: number, key = "key") =>
  `Warn The limit of "${key}" is ${own} here, but ${other} elsewhere: the smaller one counts`

describe("limits that differ", () => {
  test("are warned of once, with both numbers, by the holder that asks with the larger one", (warnings) =>
    Effect.gen(function*() {
      yield* hold(yield* semaphore(5), 1)
      const larger = yield* semaphore(10)
      yield* hold(larger, 1)
      expect(warnings).toEqual([warning(10, 5)])
      yield* hold(larger, 1)
      yield* TestClock.adjust("5 minutes")
      expect(warnings).toEqual([warning(10, 5)])
    }))

  test("are warned of by a waiter", (warnings) =>
    Effect.gen(function*() {
      yield* hold(yield* semaphore(5), 5)
      yield* hold(yield* semaphore(10), 3)
      expect(warnings).toEqual([warning(10, 5)])
    }))

  test("are warned of by a holder that was there before, when it refreshes", (warnings) =>
    Effect.gen(function*() {
      yield* hold(yield* semaphore(10), 1)
      yield* hold(yield* semaphore(5), 1)
      expect(warnings).toEqual([])
      yield* TestClock.adjust("10 seconds")
      expect(warnings).toEqual([warning(10, 5)])
    }))

  test("are warned of for each key and each other limit", (warnings) =>
    Effect.gen(function*() {
      const small = yield* hold(yield* semaphore(4), 1)
      yield* hold(yield* semaphore(10), 1)
      yield* hold(yield* semaphore(5), 1)
      yield* Fiber.interrupt(small)
      yield* hold(yield* semaphore(10), 1)
      yield* hold(yield* semaphore(1, "other"), 1)
      yield* hold(yield* semaphore(2, "other"), 1)
      expect(warnings).toEqual([warning(10, 4), warning(5, 4), warning(10, 5), warning(2, 1, "other")])
    }))

  test("hold the smallest: nobody gets more than it allows", () =>
    Effect.gen(function*() {
      yield* hold(yield* semaphore(5), 1)
      const larger = yield* semaphore(10)
      yield* hold(larger, 4)
      const waiter = yield* hold(larger, 1)
      yield* TestClock.adjust("1 minute")
      expect(waiter.pollUnsafe()).toBeUndefined()
      expect((yield* larger.inspect).line).toHaveLength(1)
      expect(yield* larger.currentCount).toBe(5)
    }))

  test("do not exist while all agree", (warnings) =>
    Effect.gen(function*() {
      for (let process = 0; process < 3; process++) yield* hold(yield* semaphore(2), 1)
      yield* TestClock.adjust("5 minutes")
      expect(warnings).toEqual([])
    }))
})
