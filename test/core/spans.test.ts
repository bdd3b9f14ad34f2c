/** What a tracer sees, and what the logs say. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Option, References, Schedule, Tracer } from "effect"
import type { Scope } from "effect"
import { TestClock } from "effect/testing"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import type { Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

type Semaphore = DistributedSemaphore.DistributedSemaphore

/** Makes a tracer that keeps its spans. */
const recorder = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const seen = () =>
    spans.filter(({ name }) => name.startsWith("DistributedSemaphore.")).map((
      { attributes, name, parent, status }
    ) => ({
      name: name.slice("DistributedSemaphore.".length),
      ended: status._tag === "Ended" ? Exit.isSuccess(status.exit) ? "well" : "badly" : "not yet",
      parent: Option.getOrUndefined(Option.map(parent, (span) => span._tag === "Span" ? span.name : "external")),
      ...Object.fromEntries(attributes)
    }))
  return { tracer, seen }
}

const test = (
  name: string,
  body: (
    semaphore: Semaphore,
    seen: ReturnType<typeof recorder>["seen"]
  ) => Effect.Effect<void, unknown, DistributedSemaphoreBacking | Scope.Scope>,
  replace: Replace = () => ({})
) =>
  it.effect(name, () => {
    const { seen, tracer } = recorder()
    return Effect.flatMap(DistributedSemaphore.make("key", { limit: 2 }), (semaphore) => body(semaphore, seen)).pipe(
      Effect.provide(FakeBacking.layer([], replace)),
      Effect.provideService(Tracer.Tracer, tracer)
    )
  })

const me = { key: "key", identifier: "me", permits: 2 }

it.effect("a tracer that throws keeps no permits", () => {
  const tracer = Tracer.make({
    span: (options) => {
      if (options.name === "DistributedSemaphore.release") throw new Error("the exporter has a bug")
      return new Tracer.NativeSpan(options)
    }
  })
  return Effect.gen(function*() {
    const semaphore = yield* DistributedSemaphore.make("key")
    const cycle = Effect.exit(semaphore.withPermits(1, { identifier: "me" })(Effect.void))
    yield* Effect.provideService(cycle, Tracer.Tracer, tracer)
    expect(yield* semaphore.currentCount).toBe(0)
    expect(yield* cycle).toEqual(Exit.void)
  }).pipe(Effect.provide(FakeBacking.layer([])))
})

describe("spans", () => {
  test(
    "show the acquisition and the release, but do not contain the work",
    (semaphore, seen) =>
      Effect.gen(function*() {
        const parent = Effect.map(Effect.currentSpan, ({ name }) => name)
        const inside = yield* parent.pipe(semaphore.withPermits(2, { identifier: "me" }), Effect.withSpan("request"))
        expect(inside).toBe("request")
        expect(seen()).toEqual([
          { name: "take", ended: "well", parent: "request", ...me, acquired: true, waited: 0 },
          { name: "release", ended: "well", parent: "request", ...me }
        ])
      })
  )

  test("say how long an acquisition waited, and behind how many", (semaphore, seen) =>
    Effect.gen(function*() {
      yield* start(semaphore.withPermits(2)(Effect.sleep("3 seconds")))
      yield* start(semaphore.withPermits(2)(Effect.sleep("3 seconds")))
      yield* start(semaphore.withPermits(2, { identifier: "me" })(Effect.never))
      const take = () =>
        seen().find(({ name, ...span }) => name === "take" && "identifier" in span && span.identifier === "me")
      expect(take()).toMatchObject({ ended: "not yet" })
      yield* TestClock.adjust("10 seconds")
      expect(take()).toEqual({
        name: "take",
        ended: "well",
        parent: undefined,
        ...me,
        acquired: true,
        waited: 6000,
        position: 1
      })
    }))

  test(
    "end when the acquisition is refused, is interrupted, or fails",
    (semaphore, seen) =>
      Effect.gen(function*() {
        const holder = yield* start(semaphore.withPermits(2)(Effect.never))
        yield* semaphore.withPermitsIfAvailable(2, { identifier: "me" })(Effect.void)
        expect(seen().at(-1)).toMatchObject({ name: "take", ended: "well", acquired: false, waited: 0, ...me })
        const waiter = yield* start(semaphore.withPermits(2, { identifier: "me" })(Effect.void))
        yield* TestClock.adjust("1 second")
        yield* Fiber.interrupt(waiter)
        expect(seen().at(-1)).toMatchObject({
          name: "take",
          ended: "badly",
          acquired: false,
          waited: 1000,
          position: 0
        })
        yield* Fiber.interrupt(holder)
        yield* Effect.flip(semaphore.withPermits(2, { identifier: "me", acquiredExternally: true })(Effect.void))
        expect(seen().at(-1)).toMatchObject({ name: "take", ended: "badly", acquired: false, ...me })
      })
  )

  test(
    "are the parents of the spans of the store's client",
    (semaphore, seen) =>
      Effect.gen(function*() {
        yield* semaphore.withPermits(1)(Effect.void)
        expect(seen().map(({ name, parent }) => [name, parent])).toEqual([
          ["take", undefined],
          ["query", "DistributedSemaphore.take"],
          ["release", undefined]
        ])
      }),
    (real) => ({ tryAcquire: (...args) => Effect.withSpan(real.tryAcquire(...args), "DistributedSemaphore.query") })
  )

  test("show scoped permits too, and no release of a hold that was lost", (semaphore, seen) =>
    Effect.gen(function*() {
      yield* Effect.scoped(semaphore.takeLease(1))
      yield* Effect.scoped(semaphore.tryTake(1))
      expect(seen().map(({ name }) => name)).toEqual(["take", "release", "take", "release"])
      const lost = yield* start(Effect.exit(semaphore.withPermits(1, { identifier: "me" })(Effect.never)))
      yield* semaphore.revoke("me")
      yield* TestClock.adjust(0)
      yield* Fiber.join(lost)
      expect(seen().map(({ name }) => name).slice(4)).toEqual(["take"])
    }))

  test("are not made if tracing is off", (semaphore, seen) =>
    Effect.gen(function*() {
      yield* Effect.withTracerEnabled(semaphore.withPermits(1)(Effect.void), false)
      expect(seen()).toEqual([])
    }))
})

describe("debug logs", () => {
  const logged = (level: "Debug" | "Info") => {
    const logs: Array<unknown> = []
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      logs.push([logLevel, String(message), { ...fiber.getRef(References.CurrentLogAnnotations) }])
    })
    const program = Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      const holder = yield* start(semaphore.withPermits(2, { identifier: "other" })(Effect.never))
      const waiter = yield* start(
        Effect.annotateLogs(semaphore.withPermits(2, { identifier: "me" })(Effect.never), { request: 7 })
      )
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(waiter)
      return logs
    })
    return program.pipe(
      Effect.provide([FakeBacking.layer([]), Logger.layer([logger])]),
      Effect.provideService(References.MinimumLogLevel, level)
    )
  }

  it.effect("follow an acquisition, with the annotations of its fiber and its own", () =>
    Effect.gen(function*() {
      const logs = yield* logged("Debug")
      const other = { key: "key", identifier: "other", permits: 2 }
      const mine = { ...me, request: 7 }
      expect(logs).toEqual([
        ["Debug", "Acquired permits", { ...other, fencingToken: 1n, millis: 0, waited: 0 }],
        ["Debug", "Waits for permits", { ...mine, position: 0 }],
        ["Debug", "Released permits", other],
        ["Debug", "Acquired permits", { ...mine, fencingToken: 2n, millis: 2000, waited: 2000 }],
        ["Debug", "Released permits", mine]
      ])
    }))

  it.effect("lose no permit when a logger throws", () => {
    const broken = Logger.make(() => {
      throw new Error("disk full")
    })
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      yield* start(semaphore.withPermit(Effect.sleep("1 second")))
      const waiter = yield* start(semaphore.withPermit(Effect.succeed("done")))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(waiter)).toBe("done")
      expect(yield* semaphore.currentCount).toBe(0)
    }).pipe(
      Effect.provide([FakeBacking.layer([]), Logger.layer([broken])]),
      Effect.provideService(References.MinimumLogLevel, "Debug")
    )
  })

  it.effect("do not say that permits were released if they were not", () => {
    const logs: Array<string> = []
    const logger = Logger.make(({ message }) => void logs.push(String(message)))
    const failing = FakeBacking.layer([], () => ({ release: () => Effect.fail(FakeBacking.failure("release")) }))
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { backingFailureRetryPolicy: Schedule.recurs(0) })
      yield* semaphore.withPermit(Effect.void)
      expect(logs.map((log) => log.split(" ")[0])).toEqual(["Acquired", "The"])
      expect(logs[1]).toContain("could not be given back")
    }).pipe(
      Effect.provide([failing, Logger.layer([logger])]),
      Effect.provideService(References.MinimumLogLevel, "Debug")
    )
  })

  it.effect("are not written at level Info", () => Effect.map(logged("Info"), (logs) => expect(logs).toEqual([])))
})

describe("the warning of a lost lease", () => {
  it.effect("names key, identifier, permits and reason as annotations", () => {
    const logs: Array<unknown> = []
    const logger = Logger.make(({ fiber, logLevel }) => {
      logs.push([logLevel, fiber.getRef(References.CurrentLogAnnotations)])
    })
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      yield* start(semaphore.withPermits(2, { identifier: "me" })(Effect.never))
      yield* semaphore.revoke("me")
      yield* TestClock.adjust(0)
      expect(logs).toEqual([["Warn", { ...me, reason: "revoked" }]])
    }).pipe(Effect.provide([FakeBacking.layer([]), Logger.layer([logger])]))
  })
})
