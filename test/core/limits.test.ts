/** Processes ask with different limits, as during a deployment: the smallest counts, and a warning says so. */
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

describe("the limits that processes ask with", () => {
  test("cause one warning if they differ, with both numbers, from the holder with the larger one", (warnings) =>
    Effect.gen(function*() {
      yield* hold(yield* semaphore(5), 1)
      const larger = yield* semaphore(10)
      yield* hold(larger, 1)
      expect(warnings).toEqual([warning(10, 5)])
      yield* hold(larger, 1)
      yield* TestClock.adjust("5 minutes")
      expect(warnings).toEqual([warning(10, 5)])
    }))

  test("cause a warning from a waiter with the larger one", (warnings) =>
    Effect.gen(function*() {
      yield* hold(yield* semaphore(5), 5)
      yield* hold(yield* semaphore(10), 3)
      expect(warnings).toEqual([warning(10, 5)])
    }))

  test("cause a warning from an earlier holder with the larger one when it refreshes", (warnings) =>
    Effect.gen(function*() {
      yield* hold(yield* semaphore(10), 1)
      yield* hold(yield* semaphore(5), 1)
      expect(warnings).toEqual([])
      yield* TestClock.adjust("10 seconds")
      expect(warnings).toEqual([warning(10, 5)])
    }))

  test("cause one warning for each key and each different limit", (warnings) =>
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

  test("bound all processes by the smallest one", () =>
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

  test("cause no warning while they are equal", (warnings) =>
    Effect.gen(function*() {
      for (let process = 0; process < 3; process++) yield* hold(yield* semaphore(2), 1)
      yield* TestClock.adjust("5 minutes")
      expect(warnings).toEqual([])
    }))

  test("cause a thousand warnings at most, however many keys there are", (warnings) =>
    Effect.gen(function*() {
      for (let key = 0; key < 1100; key++) {
        yield* (yield* semaphore(5, `${key}`)).withPermits(1)(
          Effect.scoped(Effect.flatMap(semaphore(10, `${key}`), (larger) => larger.take(1)))
        )
      }
      expect(warnings.filter((text) => text.includes("The limit of"))).toHaveLength(1000)
    }))
})
