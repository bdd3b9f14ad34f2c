import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Formatter,
  Logger,
  References,
  Schedule
} from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { DistributedSemaphore, Lease, LockLostError, SemaphoreBackingError } from "../../src/index.ts"
import type { Call, Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { start } from "../utils/start.ts"

/** With a ttl of 20 s, a lease is refreshed every 6.67 s, and trusted for 19 s. */
const ttl = "20 seconds"
const trusted = 19_000

interface Run {
  readonly calls: Array<Call>
  /** Returns how many milliseconds after the acquisition the work was interrupted, if it was. */
  readonly interruptedAt: () => number | undefined
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

/** Works for ever under a lease of a fake backing, some of whose members are replaced. */
const hold = (
  replace: Replace,
  config: DistributedSemaphore.DistributedSemaphoreConfig,
  test: (run: Run) => Effect.Effect<void, unknown>
) => {
  const calls: Array<Call> = []
  let interruptedAt: number | undefined
  return Effect.gen(function*() {
    const semaphore = yield* DistributedSemaphore.make("key", { ttl, ...config })
    const acquired = yield* Clock.currentTimeMillis
    const work = Effect.onInterrupt(Effect.never, () =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        interruptedAt = now - acquired
      }))
    const fiber = yield* start(semaphore.withPermits(1, { identifier: "me" })(work))
    yield* test({ calls, interruptedAt: () => interruptedAt, fiber })
  }).pipe(Effect.provide(FakeBacking.layer(calls, replace)))
}

const unreachable = new LockLostError({ key: "key", identifier: "me", reason: "unreachable" })
/** Matches the error that carries the last failure of the store. */
const unreachableFor = (cause: unknown) =>
  expect.objectContaining({ _tag: "LockLostError", key: "key", identifier: "me", reason: "unreachable", cause })
const failure = new SemaphoreBackingError({ operation: "refresh", cause: "connection refused" })

describe("a lease", () => {
  it.effect("is refreshed every refreshInterval, and no more often", () =>
    hold(() => ({}), { refreshInterval: "5 seconds" }, ({ calls }) =>
      Effect.gen(function*() {
        yield* TestClock.adjust("50 seconds")
        expect(calls.filter(({ operation }) => operation === "refresh")).toHaveLength(10)
      })))

  it.effect("is lost as revoked when the store does not know a hold that had time left: the work stops, nothing is released", () =>
    hold(
      () => ({ refresh: () => Effect.succeed(false) }),
      {},
      ({ calls, fiber, interruptedAt }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("7 seconds")
          expect(interruptedAt()).toBe(6667)
          expect(yield* Effect.flip(Fiber.join(fiber))).toEqual(
            new LockLostError({ key: "key", identifier: "me", reason: "revoked" })
          )
          expect(calls.map(({ operation }) => operation)).toEqual(["tryAcquire", "refresh"])
        })
    ))

  const refreshes: ReadonlyArray<readonly [string, DistributedSemaphoreBacking["refresh"], cause: unknown]> = [
    ["fails", () => Effect.fail(failure), failure],
    [
      "never answers",
      () => FakeBacking.hangs,
      expect.objectContaining({ operation: "refresh", cause: expect.any(Cause.TimeoutError) })
    ]
  ]
  it.effect.each(refreshes)(
    "is lost as unreachable at its deadline when every refresh %s, although the policy retries for ever",
    ([, refresh, cause]) =>
      hold(
        () => ({ refresh }),
        { backingFailureRetryPolicy: Schedule.spaced("100 millis") },
        (run) =>
          Effect.gen(function*() {
            yield* TestClock.adjust(trusted - 1)
            expect(run.interruptedAt()).toBeUndefined()
            yield* TestClock.adjust(1)
            expect(run.interruptedAt()).toBe(trusted)
            expect(yield* Effect.flip(Fiber.join(run.fiber))).toEqual(unreachableFor(cause))
          })
      )
  )

  it.effect("is lost with a warning that says why", () => {
    const logs: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void logs.push(`${logLevel} ${String(message)}`))
    return hold(
      () => ({ refresh: () => Effect.fail(failure) }),
      { backingFailureRetryPolicy: Schedule.spaced("100 millis") },
      ({ fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust(trusted)
          const { message } = (yield* Effect.flip(Fiber.join(fiber))) as LockLostError
          expect(message).toContain("connection refused")
          expect(logs).toEqual([`Warn ${message}`])
        })
    ).pipe(Effect.provide(Logger.layer([logger])))
  })

  it.effect("warns by the loggers, and with the annotations, of the fiber that acquired, if others share the layer", () => {
    const logs: Array<unknown> = []
    const logger = (name: string) =>
      Logger.layer([
        Logger.make(({ fiber, logLevel }) =>
          void logs.push([name, logLevel, fiber.getRef(References.CurrentLogAnnotations)["request"]])
        )
      ])
    const one = (name: string, request: number) =>
      Effect.flatMap(DistributedSemaphore.make(name, { ttl }), (mutex) => Effect.ignore(mutex.withPermit(Effect.never)))
        .pipe(Effect.annotateLogs({ request }), Effect.provide(logger(name)))
    return Effect.gen(function*() {
      yield* start(one("first", 1))
      yield* start(one("second", 2))
      yield* TestClock.adjust(trusted)
      expect(logs).toEqual([["first", "Warn", 1], ["second", "Warn", 2]])
    }).pipe(Effect.provide(FakeBacking.layer([], () => ({ refresh: () => Effect.fail(failure) }))))
  })

  it.effect("is lost in time also if the store fails with an error of another class", () =>
    hold(
      // As that of a second copy of this package would be.
      () => ({ refresh: () => Effect.fail(new Error("a foreign error") as SemaphoreBackingError) }),
      { backingFailureRetryPolicy: Schedule.spaced("100 millis") },
      ({ fiber, interruptedAt }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust(trusted)
          expect(interruptedAt()).toBe(trusted)
          const error = (yield* Effect.flip(Fiber.join(fiber))) as LockLostError
          expect(error).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
          expect(error.message).toContain("a foreign error")
        })
    ))

  it.effect("is shown and logged without the client of the store", () =>
    Effect.gen(function*() {
      const Client = Context.Service<{ readonly password: string }>("Client")
      const semaphore = yield* DistributedSemaphore.make("key").pipe(
        Effect.provideService(Client, { password: "sesame" })
      )
      const lease = yield* semaphore.takeLease(1, { identifier: "me" })
      const shown = [Formatter.format(lease), Formatter.formatJson(lease), inspect(lease, { depth: 20 })]
      for (const text of shown) {
        expect(text).toContain("me")
        expect(text).not.toContain("sesame")
        expect(text.length).toBeLessThan(300)
      }
    }).pipe(Effect.provide(FakeBacking.layer([]))))

  it.effect("is lost without a cause when the store has answered since it last failed", () => {
    let refreshes = 0
    return hold(
      (real) => ({
        refresh: (...args) =>
          ++refreshes === 1 ? Effect.fail(failure) : refreshes === 2 ? real.refresh(...args) : FakeBacking.hangs
      }),
      { refreshInterval: "18 seconds" },
      ({ fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("1 minute")
          const error = (yield* Effect.flip(Fiber.join(fiber))) as LockLostError
          expect([error.reason, error.cause]).toEqual(["unreachable", undefined])
        })
    )
  })

  it.effect("counts from when the last successful refresh was sent, not from its reply", () => {
    let refreshes = 0
    const slowly: Replace = (real) => ({
      refresh: (...args) => ++refreshes === 1 ? Effect.delay(real.refresh(...args), "4 seconds") : FakeBacking.hangs
    })
    return hold(slowly, { refreshInterval: "6 seconds" }, ({ fiber, interruptedAt }) =>
      Effect.gen(function*() {
        yield* TestClock.adjust("1 minute")
        expect(interruptedAt()).toBe(6000 + trusted)
        expect(yield* Effect.flip(Fiber.join(fiber))).toEqual(unreachable)
      }))
  })

  it.effect("that is lost fails its caller at once, although the store does not answer the release either", () =>
    hold(
      () => ({ refresh: () => FakeBacking.hangs, release: () => FakeBacking.hangs }),
      {},
      ({ calls, fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust(trusted)
          expect(fiber.pollUnsafe()).toEqual(Exit.fail(unreachable))
          yield* TestClock.adjust("1 minute")
          expect(calls.some(({ operation }) => operation === "release")).toBe(true)
        })
    ))

  it.effect("is released again and again while the store may still have it, and no more once it must be over", () => {
    const times = { refresh: [0], release: [0] }
    const fails = (operation: "refresh" | "release") => () =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        times[operation].push(now)
        return Effect.fail(failure)
      })
    return hold(
      () => ({ refresh: fails("refresh"), release: fails("release") }),
      { backingFailureRetryPolicy: Schedule.spaced("100 millis") },
      ({ fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("5 minutes")
          expect(Exit.hasFails(fiber.pollUnsafe()!)).toBe(true)
          // The last refresh may have lost its reply, and have taken effect at the time limit of its attempt.
          const attemptLimit = Math.min(Duration.toMillis(ttl) / 4, 5000)
          const over = times.refresh.at(-1)! + Duration.toMillis(ttl) + attemptLimit
          expect(times.release.at(-1)).toBeLessThan(over)
          expect(times.release.at(-1)).toBeGreaterThan(over - 200)
        })
    )
  })

  it.effect("is not released when it was over before its scope closed", () => {
    const calls: Array<Call> = []
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl })
      yield* Effect.scoped(Effect.andThen(semaphore.take(1), TestClock.adjust("1 minute")))
      yield* TestClock.adjust("1 minute")
      expect(calls.filter(({ operation }) => operation === "release")).toEqual([])
    }).pipe(Effect.provide(FakeBacking.layer(calls, () => ({ refresh: () => FakeBacking.hangs }))))
  })

  it.effect("is refreshed again while its policy, which sees each failure, says so", () => {
    let refreshes = 0
    const isPassing = (error: SemaphoreBackingError) => error.cause === "loading"
    const policy = Schedule.spaced("100 millis").pipe(
      Schedule.setInputType<SemaphoreBackingError>(),
      Schedule.while(({ input }) => isPassing(input))
    )
    const causes = ["loading", "loading", "refused"]
    return hold(
      () => ({
        refresh: () => Effect.fail(new SemaphoreBackingError({ operation: "refresh", cause: causes[refreshes++] }))
      }),
      { backingFailureRetryPolicy: policy },
      ({ fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("10 seconds")
          expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({ operation: "refresh", cause: "refused" })
          expect(refreshes).toBe(3)
        })
    )
  })

  it.effect("is kept with a refreshInterval close to the ttl", () =>
    hold(() => ({}), { refreshInterval: "19900 millis" }, ({ fiber }) =>
      Effect.gen(function*() {
        yield* TestClock.adjust("10 minutes")
        expect(fiber.pollUnsafe()).toBeUndefined()
      })))

  it.effect("ends with the error of the store when a finite policy ends before the lease, and is released", () =>
    hold(
      () => ({ refresh: () => Effect.fail(failure) }),
      { backingFailureRetryPolicy: Schedule.recurs(1) },
      ({ calls, fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("7 seconds")
          expect(fiber.pollUnsafe()).toEqual(Exit.fail(failure))
          expect(calls.map(({ operation }) => operation)).toEqual(["tryAcquire", "refresh", "refresh", "release"])
        })
    ))

  it.effect("is lost within a second after the machine wakes from a suspension that was longer than the lease", () =>
    Effect.gen(function*() {
      // While a machine is suspended, its wall clock goes on, but its monotonic clock and its timers do not.
      const clock = yield* Clock.Clock
      let suspended = 0
      const suspendable: Clock.Clock = {
        ...clock,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + suspended,
        sleep: (duration) => clock.sleep(duration)
      }
      yield* hold(() => ({}), {}, ({ fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("500 millis")
          suspended = Duration.toMillis(ttl)
          yield* TestClock.adjust("1 second")
          expect(fiber.pollUnsafe()).toEqual(Exit.fail(unreachable))
        })).pipe(Effect.provideService(Clock.Clock, suspendable))
    }))

  it.effect("is lost after a suspension of the machine, although the wall clock had been set back before", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let ahead = 0
      const adjusted: Clock.Clock = {
        ...clock,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + ahead,
        sleep: (duration) => clock.sleep(duration)
      }
      yield* hold(() => ({}), {}, ({ fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("500 millis")
          ahead -= Duration.toMillis("1 hour")
          yield* TestClock.adjust("1 minute")
          expect(fiber.pollUnsafe()).toBeUndefined()
          ahead += Duration.toMillis("1 minute")
          yield* TestClock.adjust("1 second")
          expect(fiber.pollUnsafe()).toEqual(Exit.fail(unreachable))
        })).pipe(Effect.provideService(Clock.Clock, adjusted))
    }))

  it.effect("ends at its deadline when its keepalive fiber was interrupted", () => {
    const calls: Array<Call> = []
    return Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { ttl })
      const work = yield* start(
        semaphore.withPermits(1)(Effect.gen(function*() {
          yield* Fiber.interrupt((yield* Lease).keepAlive)
          return yield* Effect.never
        }))
      )
      yield* TestClock.adjust(trusted - 1)
      expect(work.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust(1)
      expect(yield* Effect.flip(Fiber.join(work))).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
      expect(calls.some(({ operation }) => operation === "refresh")).toBe(false)
    }).pipe(Effect.provide(FakeBacking.layer(calls)))
  })

  const ends: ReadonlyArray<readonly [string, (fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<unknown>]> = [
    ["is lost", () => TestClock.adjust("7 seconds")],
    ["is interrupted", (fiber) => Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })]
  ]
  it.effect.each(ends)(
    "does not hide a defect of the work's finalizer when it %s",
    ([, end]) =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl })
        const work = yield* start(semaphore.withPermits(1)(Effect.onInterrupt(Effect.never, () => Effect.die("boom"))))
        yield* end(work)
        yield* TestClock.adjust("1 second")
        expect(String(work.pollUnsafe())).toContain("boom")
      }).pipe(Effect.provide(FakeBacking.layer([], () => ({ refresh: () => Effect.succeed(false) }))))
  )

  it.effect("without a token is released only after the refresh in flight is answered", () =>
    Effect.gen(function*() {
      const answer = yield* Deferred.make<void>()
      const slowly: Replace = (real) => ({
        tryAcquire: (...args) => Effect.as(real.tryAcquire(...args), true),
        refresh: (...args) => Effect.andThen(Deferred.await(answer), real.refresh(...args))
      })
      yield* hold(slowly, {}, ({ calls, fiber }) =>
        Effect.gen(function*() {
          yield* TestClock.adjust("7 seconds")
          const interruption = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
          yield* TestClock.adjust("100 millis")
          expect(calls.map(({ operation }) => operation)).toEqual(["tryAcquire", "refresh"])
          yield* Deferred.succeed(answer, undefined)
          yield* Fiber.join(interruption)
          expect(calls.map(({ operation }) => operation)).toEqual(["tryAcquire", "refresh", "release"])
        }))
    }))
})
