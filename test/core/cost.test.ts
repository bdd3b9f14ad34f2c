/** What the core itself costs: counted over the memory backing, so that no client of a store counts with it. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { TestClock } from "effect/testing"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterEach, vi } from "vitest"
import { DistributedSemaphore } from "../../src/index.ts"
import type { Call } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

afterEach(() => void vi.restoreAllMocks())

describe("an uncontended cycle", () => {
  const cycles = 1000

  it.live("arms no timer", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      yield* semaphore.withPermits(1)(Effect.void)
      const timers = vi.spyOn(globalThis, "setTimeout")
      for (let cycle = 0; cycle < cycles; cycle++) yield* semaphore.withPermits(1)(Effect.void)
      // The keeper wakes once a second while it has entries, and the files that ran before in this process may have left
      // timers. One for each cycle would be a thousand.
      expect(timers.mock.calls.length).toBeLessThan(cycles / 100)
    }).pipe(Effect.provide(FakeBacking.layer([]))))

  it.live("starts three fibers: one to acquire, one to work, and one to release", () => {
    let started = 0
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      yield* semaphore.withPermits(1)(Effect.void)
      started = 0
      for (let cycle = 0; cycle < cycles; cycle++) yield* semaphore.withPermits(1)(Effect.void)
      expect(started).toBeLessThanOrEqual(3 * cycles + 10)
    }).pipe(
      Effect.provide(FakeBacking.layer([])),
      Effect.provideService(Metric.FiberRuntimeMetrics, {
        recordFiberStart: () => void started++,
        recordFiberEnd: () => {}
      })
    )
  })
})

describe("a thousand", () => {
  /** Starts a thousand, ten of them every 10 ms. */
  const thousand = (use: () => Effect.Effect<unknown, unknown>) =>
    Effect.forEach(
      Array.from({ length: 100 }),
      () =>
        Effect.andThen(
          Effect.forEach(Array.from({ length: 10 }), () => start(use())),
          TestClock.adjust("10 millis")
        ),
      { discard: true }
    )

  it.effect("holds of different keys take at most 20 requests per refreshInterval", () => {
    const calls: Array<Call> = []
    let key = 0
    return Effect.gen(function*() {
      const semaphores = yield* Effect.forEach(
        Array.from({ length: 1000 }),
        () => DistributedSemaphore.make(`key ${key++}`, { ttl: "3 seconds" })
      )
      yield* thousand(() => semaphores.pop()!.withPermits(1)(Effect.never))
      yield* TestClock.adjust("1 second")
      calls.length = 0
      yield* TestClock.adjust("10 seconds")
      expect(calls.length).toBeLessThanOrEqual(200)
      expect(calls.length).toBeGreaterThanOrEqual(10)
    }).pipe(Effect.provide(FakeBacking.layer(calls)))
  })

  it.effect("waiters with a ttl of 30 s take at most 2 requests a second", () => {
    const calls: Array<Call> = []
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "30 seconds" })
      yield* start(semaphore.withPermits(1)(Effect.never))
      yield* thousand(() => semaphore.withPermits(1)(Effect.never))
      calls.length = 0
      yield* TestClock.adjust("1 minute")
      expect(calls.length).toBeLessThanOrEqual(120)
      expect((yield* semaphore.inspect).line).toHaveLength(1000)
    }).pipe(Effect.provide(FakeBacking.layer(calls)))
  })
})

describe("ten thousand contenders of a key", () => {
  it("acquire in order, and take at most 5 kB of heap for each hold and 8 kB for each waiter", async () => {
    const program = fileURLToPath(new URL("../utils/heapProcess.ts", import.meta.url))
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--expose-gc", "--disable-warning=ExperimentalWarning", program, "10000"],
      { timeout: 60_000 }
    )
    const { hold, inOrder, residentMegabytes, waiter } = JSON.parse(stdout)
    expect(inOrder).toBe(true)
    expect(hold).toBeGreaterThan(0)
    expect(hold).toBeLessThanOrEqual(5 * 1024)
    expect(waiter).toBeLessThanOrEqual(8 * 1024)
    expect(residentMegabytes).toBeLessThan(400)
  })
})
