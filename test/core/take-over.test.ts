/** An acquisition takes over a hold: one of this process, or one that an earlier run or another process has. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Option, Scheduler, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { DistributedSemaphore, DistributedSemaphoreBacking, LockNotAcquiredError } from "../../src/index.ts"
import type { Replace } from "../utils/fakeBacking.ts"
import * as FakeBacking from "../utils/fakeBacking.ts"
import { named, test } from "../utils/identified.ts"
import { start } from "../utils/start.ts"

const resume = { ...named, acquiredExternally: true }

describe("acquiredExternally in the process that holds the permits", () => {
  test("takes the hold over: only the second acquisition releases it", (semaphore) =>
    Effect.gen(function*() {
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* Scope.provide(semaphore.take(1, named), first)
      yield* Scope.provide(semaphore.take(1, resume), second)
      yield* Scope.close(first, Exit.void)
      expect(yield* semaphore.currentCount).toBe(1)
      yield* TestClock.adjust("10 minutes")
      expect(yield* semaphore.currentCount).toBe(1)
      yield* Scope.close(second, Exit.void)
      expect(yield* semaphore.currentCount).toBe(0)
    }))

  test("makes waiters for the identifier wait until the second acquisition is released, too", (semaphore) =>
    Effect.gen(function*() {
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* Scope.provide(semaphore.take(1, named), first)
      const third = yield* start(semaphore.withPermits(1, named)(Effect.void))
      yield* Scope.provide(semaphore.take(1, resume), second)
      yield* Scope.close(first, Exit.void)
      yield* TestClock.adjust("1 second")
      expect(third.pollUnsafe()).toBeUndefined()
      yield* Scope.close(second, Exit.void)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(third)
    }))

  test("fails once the hold has been released", (semaphore) =>
    Effect.gen(function*() {
      yield* Effect.scoped(semaphore.take(1, named))
      expect(yield* Effect.flip(semaphore.take(1, resume))).toEqual(
        new LockNotAcquiredError({ key: "key", identifier: "cron" })
      )
    }))
})

describe("a hold that was taken over", () => {
  test("is lost for the first acquisition when the second releases it", (semaphore) =>
    Effect.gen(function*() {
      const first = yield* start(Effect.flip(semaphore.withPermits(2, named)(Effect.never)))
      yield* semaphore.withPermits(2, resume)(Effect.void)
      expect(yield* Fiber.join(first)).toMatchObject({ _tag: "LockLostError", reason: "revoked" })
      expect(Option.isSome(yield* semaphore.tryTake(2))).toBe(true)
    }))

  test("is lost for all earlier acquisitions when the last one releases it", (semaphore) =>
    Effect.gen(function*() {
      const first = yield* start(Effect.flip(semaphore.withPermits(2, named)(Effect.never)))
      const second = yield* start(Effect.flip(semaphore.withPermits(2, resume)(Effect.never)))
      yield* semaphore.withPermits(2, resume)(Effect.void)
      const lost = { _tag: "LockLostError", reason: "revoked" }
      expect(yield* Fiber.joinAll([first, second])).toMatchObject([lost, lost])
    }))

  test("stays with the first acquisition when the second is lost, until a third one releases it", (semaphore) =>
    Effect.gen(function*() {
      const first = yield* start(Effect.flip(semaphore.withPermits(2, named)(Effect.never)))
      yield* Fiber.interrupt(yield* semaphore.take(2, resume))
      yield* TestClock.adjust("2 minutes")
      expect(first.pollUnsafe()).toBeUndefined()
      yield* semaphore.withPermits(2, resume)(Effect.void)
      expect(yield* Fiber.join(first)).toMatchObject({ _tag: "LockLostError", reason: "revoked" })
    }))

  test("is lost for the first acquisition also if the second runs inside of it", (semaphore) =>
    Effect.gen(function*() {
      const inner = semaphore.withPermits(1, resume)(Effect.void)
      const outer = semaphore.withPermits(1, named)(Effect.andThen(inner, Effect.never))
      expect(yield* Effect.flip(outer)).toMatchObject({ _tag: "LockLostError", reason: "revoked" })
    }))

  test("counts once among the permits of a fiber that holds it by both acquisitions", (semaphore) =>
    Effect.gen(function*() {
      const nested = semaphore.currentCount.pipe(
        semaphore.withPermits(1),
        semaphore.withPermits(1, resume),
        semaphore.withPermits(1, named)
      )
      // The first acquisition loses its hold when the second releases it.
      expect(yield* Effect.flip(nested)).toMatchObject({ _tag: "LockLostError", reason: "revoked" })
      expect(yield* semaphore.currentCount).toBe(0)
    }))
})

describe("acquiredExternally, if the store confirms the hold before it is released", () => {
  let slow = true
  it.effect("takes over nothing when the answer comes after the release", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      const first = yield* start(semaphore.withPermits(1, named)(Effect.never))
      const second = yield* start(
        Effect.flip(semaphore.withPermits(1, { ...named, acquiredExternally: true })(Effect.never))
      )
      yield* Fiber.interrupt(first)
      yield* semaphore.take(1)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(second)).toMatchObject({ _tag: "LockNotAcquiredError" })
      expect(yield* semaphore.currentCount).toBe(1)
    }).pipe(
      Effect.provide(
        FakeBacking.layer([], (real) => ({
          refresh: (...args) =>
            Effect.tap(real.refresh(...args), () => {
              if (!slow) return Effect.void
              slow = false
              return Effect.sleep("1 second")
            })
        }))
      )
    ))
})

describe("acquiredExternally under an identifier that nobody uses", () => {
  const asks = Deferred.makeUnsafe<void>()
  it.effect("keeps other acquisitions waiting until the store has answered, and frees the identifier if there is no hold", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      const resumed = yield* start(
        Effect.flip(semaphore.withPermits(1, { ...named, acquiredExternally: true })(Effect.void))
      )
      const other = yield* start(semaphore.withPermits(1, named)(Effect.succeed("done")))
      expect(other.pollUnsafe()).toBeUndefined()
      expect(yield* semaphore.currentCount).toBe(0)
      yield* Deferred.succeed(asks, undefined)
      expect(yield* Fiber.join(resumed)).toBeInstanceOf(LockNotAcquiredError)
      expect(yield* Fiber.join(other)).toBe("done")
    }).pipe(
      Effect.provide(FakeBacking.layer([], (real) => ({
        refresh: (...args) => Effect.andThen(Deferred.await(asks), real.refresh(...args))
      })))
    ))

  const answers = Deferred.makeUnsafe<void>()
  let asked = 0
  it.effect("asks again if another acquisition resumed the hold and released it before the answer came", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      const backing = yield* DistributedSemaphoreBacking
      yield* backing.tryAcquire("key", named.identifier, Duration.minutes(1), 2, 1)
      const resume = semaphore.withPermits(1, { ...named, acquiredExternally: true })(Effect.succeed("done"))
      const first = yield* start(Effect.flip(resume))
      expect(yield* resume).toBe("done")
      expect(yield* semaphore.currentCount).toBe(0)
      yield* Deferred.succeed(answers, undefined)
      expect(yield* Fiber.join(first)).toBeInstanceOf(LockNotAcquiredError)
    }).pipe(
      Effect.provide(FakeBacking.layer([], (real) => ({
        refresh: (...args) =>
          Effect.tap(real.refresh(...args), () => ++asked === 1 ? Deferred.await(answers) : Effect.void)
      })))
    ))
})

describe("an acquisition whose hold another one has taken over and released", () => {
  /** Holds back the first answer of the store. */
  const slow = (replied: Deferred.Deferred<void>): Replace => {
    let asked = 0
    return (real) => ({
      tryAcquire: (...args) =>
        Effect.tap(real.tryAcquire(...args), () => ++asked === 1 ? Deferred.await(replied) : Effect.void)
    })
  }

  it.effect("before the answer came asks again, and holds", () =>
    Effect.gen(function*() {
      const replied = yield* Deferred.make<void>()
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const first = yield* start(semaphore.withPermits(1, named)(Effect.never))
        yield* semaphore.withPermits(1, resume)(Effect.void)
        yield* Deferred.succeed(replied, undefined)
        yield* TestClock.adjust("1 minute")
        expect(first.pollUnsafe()).toBeUndefined()
        expect(yield* semaphore.currentCount).toBe(1)
        yield* Fiber.interrupt(first)
        expect(yield* semaphore.currentCount).toBe(0)
      }).pipe(Effect.provide(FakeBacking.layer([], slow(replied))))
    }))

  it.effect("before the answer to tryTake came asks again, and holds", () =>
    Effect.gen(function*() {
      const replied = yield* Deferred.make<void>()
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const first = yield* start(semaphore.tryTake(1, named))
        yield* semaphore.withPermits(1, resume)(Effect.void)
        yield* Deferred.succeed(replied, undefined)
        expect(Option.isSome(yield* Fiber.join(first))).toBe(true)
        yield* TestClock.adjust("1 minute")
        expect(yield* semaphore.currentCount).toBe(1)
      }).pipe(Effect.provide(FakeBacking.layer([], slow(replied))))
    }))

  it.effect("before the notification came joins the line anew, and holds", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key")
      const holder = yield* start(semaphore.withPermits(1)(Effect.never))
      const first = yield* start(semaphore.withPermits(1, named)(Effect.never))
      yield* Fiber.interrupt(holder)
      yield* semaphore.withPermits(1, resume)(Effect.void)
      yield* TestClock.adjust("1 minute")
      expect(first.pollUnsafe()).toBeUndefined()
      expect(yield* semaphore.currentCount).toBe(1)
    }).pipe(
      Effect.provide(FakeBacking.layer([], () => ({ onPermitsReleased: () => Stream.make(undefined) })))
    ))

  /** Notifies of no grant, and holds back one refresh of "cron", before or after it takes effect. */
  const slowRefresh =
    (where: "before" | "after", isSlow: () => boolean, replied: Deferred.Deferred<void>): Replace => (real) => ({
      onPermitsReleased: () => Stream.make(undefined),
      refresh: (...args) => {
        const refresh = real.refresh(...args)
        if (args[1] !== named.identifier || !isSlow()) return refresh
        const wait = Deferred.await(replied)
        return where === "before" ? Effect.andThen(wait, refresh) : Effect.tap(refresh, () => wait)
      }
    })

  /** The hold of "cron" is taken over and released, while its waiter looks. */
  const takenOverWhileItLooks = (
    where: "before" | "after",
    then: (
      semaphore: DistributedSemaphore.DistributedSemaphore,
      first: Fiber.Fiber<unknown, unknown>,
      works: () => boolean
    ) => Effect.Effect<void, unknown, Scope.Scope>,
    others: number
  ) =>
    Effect.gen(function*() {
      const replied = yield* Deferred.make<void>()
      let slow = 0
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const holder = yield* start(semaphore.withPermits(1)(Effect.never))
        let works = false
        const work = Effect.andThen(Effect.sync(() => works = true), Effect.never)
        const first = yield* start(semaphore.withPermits(1, named)(work))
        for (let other = 0; other < others; other++) yield* start(semaphore.withPermits(1)(Effect.sleep("1 minute")))
        yield* Fiber.interrupt(holder)
        slow = 1
        yield* TestClock.adjust("1 second")
        expect([slow, works]).toEqual([0, false])
        yield* TestClock.adjust("1 millis")
        yield* semaphore.withPermits(1, resume)(Effect.void)
        yield* Deferred.succeed(replied, undefined)
        yield* TestClock.adjust(0)
        yield* then(semaphore, first, () => works)
      }).pipe(Effect.provide(FakeBacking.layer([], slowRefresh(where, () => slow-- === 1, replied))))
    })

  it.effect("while it looked does not take the answer for one about its new place", () =>
    takenOverWhileItLooks("after", (semaphore, _, works) =>
      Effect.gen(function*() {
        const { holders, line } = yield* semaphore.inspect
        expect(holders.map(({ identifier }) => identifier)).not.toContain("cron")
        expect(line.map(({ identifier }) => identifier)).toEqual(["cron"])
        expect(works()).toBe(false)
        yield* TestClock.adjust("2 minutes")
        expect(works()).toBe(true)
      }), 1))

  it.effect("while it looked does not lose its new hold by the answer", () =>
    takenOverWhileItLooks("before", (semaphore, first, works) =>
      Effect.gen(function*() {
        expect(works()).toBe(true)
        yield* TestClock.adjust("2 minutes")
        expect(first.pollUnsafe()).toBeUndefined()
        expect(yield* semaphore.currentCount).toBe(1)
      }), 0))

  it.effect("does not work without a hold, whichever step it had come to", () =>
    Effect.gen(function*() {
      let lost = 0
      for (let turns = 0; turns < 80; turns++) {
        const semaphore = yield* DistributedSemaphore.make(`key ${turns}`)
        let works = false
        const work = Effect.acquireUseRelease(
          Effect.sync(() => works = true),
          () => Effect.never,
          () => Effect.sync(() => works = false)
        )
        // It gives others their turn after each step.
        const first = yield* Effect.forkScoped(
          Effect.provideService(semaphore.withPermits(1, named)(work), Scheduler.MaxOpsBeforeYield, 3)
        )
        for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
        yield* Effect.exit(semaphore.withPermits(1, resume)(Effect.void))
        for (let turn = 0; turn < 300; turn++) yield* Effect.yieldNow
        expect([turns, works ? 1 : 0]).toEqual([turns, yield* semaphore.currentCount])
        if (first.pollUnsafe() !== undefined) lost++
      }
      // It has come to all steps: to the first, and to its work.
      expect(lost).toBeGreaterThan(0)
      expect(lost).toBeLessThan(80)
    }).pipe(Effect.provide(FakeBacking.layer([]))))
})
