/** An operator revokes a hold or a place (B13). */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Exit, Fiber, Option, References, Stream } from "effect"
import type { Scope } from "effect"
import { TestClock } from "effect/testing"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease } from "../../src/index.ts"
import type { Call, Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

type Semaphore = DistributedSemaphore.DistributedSemaphore

/** `other` revokes as another process does: only the store notifies the semaphore of it. */
const test = (
  name: string,
  replace: Replace,
  body: (
    semaphore: Semaphore,
    other: (identifier: string) => Effect.Effect<number, unknown>,
    calls: Array<Call>
  ) => Effect.Effect<void, unknown, Scope.Scope>
) =>
  it.effect(name, () => {
    const calls: Array<Call> = []
    return Effect.gen(function*() {
      const backing = yield* DistributedSemaphoreBacking
      const semaphore = yield* DistributedSemaphore.make("key", { ttl: "30 seconds", limit: 2 })
      const other = (identifier: string) => backing.release("key", identifier, 2, { revoke: true })
      yield* body(semaphore, other, calls)
    }).pipe(
      Effect.provide(FakeBacking.layer(calls, replace)),
      Effect.provideService(References.MinimumLogLevel, "Error")
    )
  })

/** Makes the backing notify of no revocation. */
const silent: Replace = () => ({ onRevoked: undefined })

const revoked = { _tag: "LockLostError", reason: "revoked", key: "key", identifier: "me" }

/** Holds as "me", and records when the work is interrupted. */
const hold = (semaphore: Semaphore) =>
  Effect.gen(function*() {
    let stoppedAt: number | undefined
    const work = Effect.onInterrupt(Effect.never, () =>
      Effect.map(Clock.currentTimeMillis, (now) => void (stoppedAt = now)))
    const fiber = yield* start(semaphore.withPermits(2, { identifier: "me" })(work))
    return {
      fiber,
      stoppedAt: () =>
        stoppedAt
    }
  })

const countOf = (calls: ReadonlyArray<Call>, operation: Call["operation"]) =>
  calls.filter((call) => call.operation === operation).length

describe("a revoked hold", () => {
  for (const [where, replace] of [["another process", () => ({})], ["the same process", silent]] as const) {
    test(
      `is lost at once when ${where} revokes it: its work stops, and others are granted`,
      replace,
      (semaphore, other) =>
        Effect.gen(function*() {
          const { fiber, stoppedAt } = yield* hold(semaphore)
          const waiter = yield* start(semaphore.withPermits(1)(Effect.succeed("done")))
          yield* TestClock.adjust("2 seconds")
          expect(yield* where === "another process" ? other("me") : semaphore.revoke("me")).toBe(2)
          yield* TestClock.adjust(0)
          expect(stoppedAt()).toBe(2000)
          expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject(revoked)
          expect(yield* Fiber.join(waiter)).toBe("done")
          expect(yield* semaphore.currentCount).toBe(0)
        })
    )
  }

  test(
    "is lost at its next refresh if the store notifies of no revocations",
    silent,
    (semaphore, other) =>
      Effect.gen(function*() {
        const { fiber, stoppedAt } = yield* hold(semaphore)
        yield* TestClock.adjust("2 seconds")
        yield* other("me")
        yield* TestClock.adjust("7999 millis")
        expect(stoppedAt()).toBeUndefined()
        yield* TestClock.adjust("1 millis")
        expect(stoppedAt()).toBe(10_000)
        expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject(revoked)
      })
  )

  test(
    "is not released by its holder: a new hold of the same identifier stays",
    () => ({}),
    (semaphore, other, calls) =>
      Effect.gen(function*() {
        const { fiber } = yield* hold(semaphore)
        yield* TestClock.adjust("2 seconds")
        yield* other("me")
        yield* TestClock.adjust(0)
        yield* Effect.exit(Fiber.join(fiber))
        const releases = countOf(calls, "release")
        const again = yield* hold(semaphore)
        yield* TestClock.adjust("1 minute")
        expect(again.fiber.pollUnsafe()).toBeUndefined()
        expect(countOf(calls, "release")).toBe(releases)
        expect(yield* semaphore.currentCount).toBe(2)
      })
  )

  test(
    "fails the keepalive fiber of its scoped lease, which then has no time remaining",
    () => ({}),
    (semaphore, other) =>
      Effect.gen(function*() {
        const lease = yield* semaphore.takeLease(1, { identifier: "me" })
        const joined = yield* start(Effect.flip(Fiber.join(lease.keepAlive)))
        yield* TestClock.adjust("2 seconds")
        yield* other("me")
        yield* TestClock.adjust(0)
        expect(joined.pollUnsafe()).toMatchObject(Exit.succeed(revoked))
        expect(Duration.toMillis(yield* lease.remaining)).toBe(0)
      })
  )

  let refreshes = 0
  const replied = Deferred.makeUnsafe<void>()
  test(
    "is lost as soon as the refresh is answered that was under way when the revocation was heard",
    (real) => ({
      // The store answers before the revocation, but the answer arrives after it.
      refresh: (...args) =>
        Effect.tap(real.refresh(...args), () => ++refreshes === 1 ? Deferred.await(replied) : Effect.void)
    }),
    (semaphore, other) =>
      Effect.gen(function*() {
        const { fiber } = yield* hold(semaphore)
        yield* TestClock.adjust("10 seconds")
        expect(refreshes).toBe(1)
        yield* other("me")
        yield* TestClock.adjust("1 second")
        expect(fiber.pollUnsafe()).toBeUndefined()
        yield* Deferred.succeed(replied, undefined)
        yield* TestClock.adjust(0)
        expect(refreshes).toBe(2)
        expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject(revoked)
      })
  )

  test(
    "leads to no refresh, and no loss, of a hold of another identifier",
    () => ({}),
    (semaphore, other, calls) =>
      Effect.gen(function*() {
        const fiber = yield* start(semaphore.withPermits(1, { identifier: "you" })(Effect.never))
        yield* TestClock.adjust("2 seconds")
        expect(yield* other("me")).toBe(0)
        yield* TestClock.adjust(0)
        expect(countOf(calls, "refresh")).toBe(0)
        yield* TestClock.adjust("1 minute")
        expect(fiber.pollUnsafe()).toBeUndefined()
      })
  )

  test("whose keepalive fiber was interrupted is not refreshed: its work goes on until its lease is over", () => ({}), (
    semaphore,
    other,
    calls
  ) =>
    Effect.gen(function*() {
      const fiber = yield* start(
        semaphore.withPermits(1, { identifier: "me" })(
          Effect.andThen(Effect.flatMap(Lease, ({ keepAlive }) => Fiber.interrupt(keepAlive)), Effect.never)
        )
      )
      yield* TestClock.adjust("2 seconds")
      yield* other("me")
      yield* TestClock.adjust("26 seconds")
      expect(fiber.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust("1 second")
      expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({ reason: "unreachable" })
      expect(countOf(calls, "refresh")).toBe(0)
    }))

  test(
    "frees nothing if nobody holds by its identifier",
    () => ({}),
    (semaphore) => Effect.map(semaphore.revoke("nobody"), (freed) => expect(freed).toBe(0))
  )
})

describe("revocations under load", () => {
  test(
    "interrupt each revoked holder at once, and keep the limit and the order of tokens",
    () => ({}),
    (semaphore, other) =>
      Effect.gen(function*() {
        interface Hold {
          readonly permits: number
          readonly token: bigint
          readonly began: number
          ended: number
          revoked: number | undefined
        }
        const holds = new Map<string, Hold>()
        const now = Clock.currentTimeMillis
        const work = (millis: number) =>
          Effect.gen(function*() {
            const { fencingToken, identifier, permits } = yield* Lease
            const token = Option.getOrThrow(fencingToken)
            const hold: Hold = {
              permits,
              token,
              began: yield* now,
              ended: Number.POSITIVE_INFINITY,
              revoked: undefined
            }
            holds.set(identifier, hold)
            yield* Effect.ensuring(Effect.sleep(millis), Effect.map(now, (ended) => void (hold.ended = ended)))
          })
        const worker = (index: number) =>
          Effect.forEach(Array.from({ length: 10 }, (_, cycle) => cycle), (cycle) =>
            Effect.exit(semaphore.withPermits(1 + (index + cycle) % 2)(work(150 + (index * 70 + cycle * 110) % 400))))
        yield* Effect.forEach(
          Array.from({ length: 20 }, (_, index) =>
            index),
          (index) =>
            start(worker(index))
        )
        for (let step = 0; step < 400; step++) {
          yield* TestClock.adjust("103 millis")
          const { holders } = yield* semaphore.inspect
          const holder = holders[step % 2]
          if (step < 20 || holder === undefined) continue
          yield* other(holder.identifier)
          const hold = holds.get(holder.identifier)!
          hold.revoked = yield* now
          yield* TestClock.adjust(0)
          expect(hold.ended).toBe(hold.revoked)
        }
        const history = Array.from(holds.values()).toSorted((a, b) => a.token < b.token ? -1 : 1)
        expect(history.length).toBe(200)
        expect(history.filter(({ revoked }) => revoked !== undefined).length).toBeGreaterThan(50)
        for (const [index, hold] of history.entries()) {
          if (index > 0) expect(hold.began).toBeGreaterThanOrEqual(history[index - 1]!.began)
          const atOnce = history.filter(({ began, ended }) => began <= hold.began && hold.began < ended)
          expect(atOnce.reduce((sum, { permits }) => sum + permits, 0)).toBeLessThanOrEqual(2)
        }
      })
  )
})

describe("a revoked waiter", () => {
  for (const [where, replace] of [["another process", () => ({})], ["the same process", silent]] as const) {
    test(
      `joins the end of the line when ${where} revokes its place`,
      replace,
      (semaphore, other) =>
        Effect.gen(function*() {
          const holder = yield* start(semaphore.withPermits(2)(Effect.never))
          const order: Array<string> = []
          const waiters = yield* Effect.forEach(
            ["me", "b", "c"],
            (identifier) => start(semaphore.withPermits(2, { identifier })(Effect.sync(() => order.push(identifier))))
          )
          yield* TestClock.adjust("2 seconds")
          expect(yield* where === "another process" ? other("me") : semaphore.revoke("me")).toBe(0)
          yield* TestClock.adjust(0)
          expect((yield* semaphore.inspect).line.map(({ identifier }) => identifier)).toEqual(["b", "c", "me"])
          yield* Fiber.interrupt(holder)
          yield* Fiber.joinAll(waiters)
          expect(order).toEqual(["b", "c", "me"])
        })
    )
  }
})

describe("the stream of revocations", () => {
  /** Counts how often the stream is opened and closed. */
  const counted = () => {
    const counts = { opened: 0, closed: 0 }
    const replace: Replace = (real) => ({
      onRevoked: Stream.unwrap(
        Effect.as(
          Effect.acquireRelease(Effect.sync(() => counts.opened++), () => Effect.sync(() => counts.closed++)),
          real.onRevoked!
        )
      )
    })
    return { counts, replace }
  }

  const short = counted()
  test("is not opened for holds that last less than a second", short.replace, (semaphore) =>
    Effect.gen(function*() {
      for (let cycle = 0; cycle < 20; cycle++) {
        const fiber = yield* start(semaphore.withPermits(1)(Effect.sleep("900 millis")))
        yield* TestClock.adjust("900 millis")
        yield* Fiber.join(fiber)
      }
      expect(short.counts).toEqual({ opened: 0, closed: 0 })
    }))

  const long = counted()
  test(
    "is opened once for all longer holds, and closed when there are none",
    long.replace,
    (semaphore) =>
      Effect.gen(function*() {
        const fibers = yield* Effect.forEach([1, 2, 3], () => start(semaphore.withPermits(1)(Effect.never)))
        yield* TestClock.adjust("10 seconds")
        expect(long.counts).toEqual({ opened: 1, closed: 0 })
        yield* Fiber.interruptAll(fibers)
        yield* TestClock.adjust("1 second")
        expect(long.counts).toEqual({ opened: 1, closed: 1 })
        const again = yield* start(semaphore.withPermits(1)(Effect.never))
        yield* TestClock.adjust("2 seconds")
        expect(long.counts).toEqual({ opened: 2, closed: 1 })
        yield* Fiber.interrupt(again)
      })
  )
})

describe("revoke", () => {
  test(
    "refuses an empty identifier, and does not ask the store",
    () => ({}),
    (semaphore, _, calls) =>
      Effect.gen(function*() {
        expect(Exit.hasDies(yield* Effect.exit(semaphore.revoke("")))).toBe(true)
        expect(calls).toEqual([])
      })
  )

  let tries = 0
  test(
    "is sent again while the store fails",
    (real) => ({
      release: (...args) => ++tries < 3 ? Effect.fail(FakeBacking.failure("release")) : real.release(...args)
    }),
    (semaphore) =>
      Effect.gen(function*() {
        const { fiber } = yield* hold(semaphore)
        const revocation = yield* start(semaphore.revoke("me"))
        yield* TestClock.adjust("1 second")
        expect(yield* Fiber.join(revocation)).toBe(2)
        expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject(revoked)
      })
  )

  test("works for a store without tokens, too", (real) => ({
    tryAcquire: (...args) => Effect.map(real.tryAcquire(...args), (answer) => answer !== false),
    refresh: (...args) => Effect.map(real.refresh(...args), (answer) => answer !== false)
  }), (semaphore, other) =>
    Effect.gen(function*() {
      const { fiber } = yield* hold(semaphore)
      yield* TestClock.adjust("2 seconds")
      yield* other("me")
      yield* TestClock.adjust(0)
      const exit = Option.fromUndefinedOr(fiber.pollUnsafe())
      expect(Option.map(exit, Exit.hasFails)).toEqual(Option.some(true))
    }))
})
