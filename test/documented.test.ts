/** What the README of 0.0.11 documents, turned into code: all of it works as written. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Option, Schedule, Scope, Stream } from "effect"
import { Redis } from "ioredis"
import { inject } from "vitest"
import type { LockLostError } from "../src/index.ts"
import {
  Backing,
  DistributedSemaphore,
  DistributedSemaphoreBacking,
  LockNotAcquiredError,
  MemoryBacking,
  RedisBacking,
  SemaphoreBackingError
} from "../src/index.ts"

const redisLayer = (options: RedisBacking.RedisBackingOptions) =>
  Layer.unwrap(Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Redis(inject("redisUrl"))),
      (redis) => Effect.sync(() => redis.disconnect())
    ),
    (redis) => RedisBacking.layer(redis, options)
  ))

const config = {
  limit: 5,
  ttl: "10 seconds",
  refreshInterval: "3 seconds",
  acquireRetryInterval: "50 millis",
  backingFailureRetryPolicy: Schedule.exponential("100 millis")
} as const

let keys = 0
const freshKey = () => `documented-${process.pid}-${keys++}`

describe.each([
  ["MemoryBacking", MemoryBacking.layer],
  ["RedisBacking with its defaults", redisLayer({})],
  [
    "RedisBacking with push",
    redisLayer({
      keyPrefix: "my-prefix:",
      pushBasedAcquireEnabled: true,
      pushStreamRetrySchedule: Schedule.forever
    })
  ],
  ["RedisBacking without push", redisLayer({ pushBasedAcquireEnabled: false })]
])("on %s", (_, layer) => {
  const semaphore = Effect.suspend(() => DistributedSemaphore.make(freshKey(), config))
  const test = (name: string, body: Effect.Effect<void, unknown, DistributedSemaphoreBacking | Scope.Scope>) =>
    it.live(name, () => Effect.provide(body, layer))

  test(
    "make: the semaphore has its key and its limit, which is 1 by default",
    Effect.gen(function*() {
      const key = freshKey()
      expect(yield* DistributedSemaphore.make(key, config)).toMatchObject({ key, limit: 5 })
      expect((yield* DistributedSemaphore.make(key)).limit).toBe(1)
    })
  )

  test(
    "withPermits acquires, runs the effect, and releases",
    Effect.gen(function*() {
      const sem = yield* semaphore
      const inside = yield* sem.currentCount.pipe(sem.withPermits(2))
      expect([inside, yield* sem.currentCount]).toEqual([2, 0])
    })
  )

  test(
    "withPermitsIfAvailable returns some result, or none",
    Effect.gen(function*() {
      const sem = yield* semaphore
      expect(yield* Effect.succeed("done").pipe(sem.withPermitsIfAvailable(1))).toEqual(Option.some("done"))
      const refused = yield* Effect.succeed("done").pipe(sem.withPermitsIfAvailable(1), sem.withPermits(5))
      expect(refused).toEqual(Option.none())
    })
  )

  test(
    "take and tryTake hold until the scope closes, and return the keepalive fiber",
    Effect.gen(function*() {
      const sem = yield* semaphore
      yield* Effect.scoped(Effect.gen(function*() {
        const keepAliveFiber: Fiber.Fiber<never, LockLostError | SemaphoreBackingError> = yield* sem.take(2)
        const second = yield* sem.tryTake(3)
        expect(Fiber.isFiber(keepAliveFiber)).toBe(true)
        expect(Option.map(second, Fiber.isFiber)).toEqual(Option.some(true))
        expect(yield* sem.tryTake(1)).toEqual(Option.none())
        expect(sem.limit - (yield* sem.currentCount)).toBe(0)
      }))
      expect(yield* sem.currentCount).toBe(0)
    })
  )

  test(
    "a waiter acquires when the permits are released",
    Effect.gen(function*() {
      const sem = yield* semaphore
      const scope = yield* Scope.make()
      yield* Scope.provide(sem.take(5), scope)
      const waiter = yield* Effect.forkScoped(Effect.succeed("done").pipe(sem.withPermits(3)))
      yield* Effect.sleep("100 millis")
      expect(waiter.pollUnsafe()).toBeUndefined()
      yield* Scope.close(scope, Exit.void)
      expect(yield* Effect.timeout(Fiber.join(waiter), "5 seconds")).toBe("done")
    })
  )

  test(
    "crash recovery: acquiredExternally resumes the hold of a stored identifier, and fails if there is none",
    Effect.gen(function*() {
      const key = freshKey()
      const identifier = crypto.randomUUID()
      const backing = yield* DistributedSemaphoreBacking
      const sem = yield* DistributedSemaphore.make(key, { limit: 1, ttl: "1 second" })
      // The process that crashed left its hold behind.
      yield* backing.tryAcquire(key, identifier, Duration.seconds(1), 1, 1)
      const resume = sem.withPermitsIfAvailable(1, { identifier, acquiredExternally: true })

      expect(yield* Effect.succeed("resumed").pipe(resume)).toEqual(Option.some("resumed"))
      expect(yield* Effect.succeed("resumed").pipe(resume)).toEqual(Option.none())
      const gone = yield* Effect.flip(sem.withPermits(1, { identifier, acquiredExternally: true })(Effect.void))
      expect(gone).toBeInstanceOf(LockNotAcquiredError)
      expect(yield* Effect.succeed("restarted").pipe(sem.withPermits(1))).toBe("restarted")
    })
  )

  test(
    "hand-off: a second process goes on with the hold of the first, and releases it",
    Effect.gen(function*() {
      const key = freshKey()
      const [first, second] = [yield* DistributedSemaphore.make(key), yield* DistributedSemaphore.make(key)]
      // The first never closes this scope, as if it had exited.
      const scope = yield* Scope.make()
      yield* Scope.provide(first.take(1, { identifier: "job-7" }), scope)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* second.take(1, { identifier: "job-7", acquiredExternally: true })
        expect(yield* second.currentCount).toBe(1)
      }))
      expect(yield* second.currentCount).toBe(0)
    })
  )

  test(
    "errors are tagged, and say what happened",
    Effect.gen(function*() {
      const real = yield* DistributedSemaphoreBacking
      const failing = Layer.succeed(DistributedSemaphoreBacking, {
        ...real,
        getCount: () => Effect.fail(new SemaphoreBackingError({ operation: "getCount", cause: "no connection" })),
        refresh: () => Effect.succeed(false)
      })
      yield* Effect.gen(function*() {
        const sem = yield* DistributedSemaphore.make(freshKey(), {
          refreshInterval: "10 millis",
          backingFailureRetryPolicy: Schedule.recurs(0)
        })
        const lost = Effect.never.pipe(
          sem.withPermits(1),
          Effect.catchTag("LockLostError", (error) => Effect.succeed(`lost ${error.key === sem.key}`))
        )
        expect(yield* lost).toBe("lost true")
        const failed = sem.currentCount.pipe(
          Effect.catchTag(
            "SemaphoreBackingError",
            (error) => Effect.succeed([error.operation, error.cause, error.message])
          )
        )
        expect(yield* failed).toEqual([
          "getCount",
          "no connection",
          "Backing store error during \"getCount\": no connection"
        ])
      }).pipe(Effect.provide(failing))
    })
  )
})

describe("a backing of one's own", () => {
  it.effect("works when Layer.succeed provides it", () =>
    Effect.gen(function*() {
      const sem = yield* DistributedSemaphore.make("key")
      expect(yield* Effect.succeed("ran").pipe(sem.withPermits(1))).toBe("ran")
    }).pipe(Effect.provide(Layer.succeed(DistributedSemaphoreBacking, {
      tryAcquire: (_key, _holderId, _ttl, _limit, _permits) => Effect.succeed(true),
      release: (_key, _holderId, permits) => Effect.succeed(permits),
      refresh: (_key, _holderId, _ttl, _limit, _permits) => Effect.succeed(true),
      getCount: (_key, _ttl) => Effect.succeed(0),
      onPermitsReleased: (_key) => Stream.never
    }))))

  it("Backing exports the names of the contract", () => {
    expect(Backing.DistributedSemaphoreBacking).toBe(DistributedSemaphoreBacking)
    expect(Backing.SemaphoreBackingError).toBe(SemaphoreBackingError)
  })
})
