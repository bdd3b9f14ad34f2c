import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import type { RedisOptions } from "ioredis"
import { inject } from "vitest"
import { DistributedSemaphore, Lease, RedisBacking } from "../../src/index.ts"
import { commandsDuring, connect, keys, server } from "../utils/redis.ts"

let fresh = 0
const freshKey = () => `redis-${process.pid}-${fresh++}`

const layer = (options: RedisBacking.RedisBackingOptions = {}, client: Omit<RedisOptions, "replyMapping"> = {}) =>
  Layer.unwrap(Effect.map(connect(inject("redisUrl"), client), (redis) => RedisBacking.layer(redis, options)))

describe("clocks", () => {
  it.live.each([60_000, -60_000])(
    "a client whose clock is %d ms off neither takes the hold of others nor loses its own",
    (offset) =>
      Effect.gen(function*() {
        const right = yield* DistributedSemaphore.make(freshKey(), { ttl: "3 seconds" })
        const { key } = right
        const now = Date.now
        yield* Effect.acquireRelease(
          Effect.sync(() => void (Date.now = () => now() + offset)),
          () => Effect.sync(() => void (Date.now = now))
        )
        const wrong = yield* DistributedSemaphore.make(key, { ttl: "3 seconds" })
        // Neither takes the other's hold, although each holds longer than the ttl.
        for (const [holder, other] of [[wrong, right], [right, wrong]] as const) {
          yield* holder.withPermits(1)(Effect.gen(function*() {
            yield* Effect.sleep("3500 millis")
            expect(yield* other.tryTake(1)).toEqual(Option.none())
          }))
        }
      }).pipe(Effect.provide(layer()))
  )
})

describe("client options change nothing:", () => {
  const options: ReadonlyArray<readonly [string, Omit<RedisOptions, "replyMapping">]> = [
    ["keyPrefix", { keyPrefix: "client:{x}:" }],
    ["stringNumbers", { stringNumbers: true }],
    ["protocol 2", { protocol: 2 }],
    ["enableAutoPipelining", { enableAutoPipelining: true }],
    ["lazyConnect", { lazyConnect: true }],
    ["autoResendUnfulfilledCommands", { autoResendUnfulfilledCommands: false }],
    ["no autoResubscribe, no offline queue", { autoResubscribe: false, maxRetriesPerRequest: 1 }]
  ]
  it.live.each(options)("%s", ([, client]) =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make(freshKey(), { limit: 2, ttl: "1 minute" })
      const work = Effect.gen(function*() {
        expect(yield* semaphore.currentCount).toBeLessThanOrEqual(2)
        return Option.getOrThrow((yield* Lease).fencingToken)
      })
      // Their order is that in which the workers asked.
      const tokens = yield* Effect.all(Array.from({ length: 20 }, () => semaphore.withPermits(1)(work)), {
        concurrency: "unbounded"
      })
      expect(tokens).toEqual(tokens.toSorted((a, b) => a < b ? -1 : 1))
      expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
      // By looks alone, each hand-off would take up to a second.
    }).pipe(Effect.timeout("5 seconds"), Effect.provide(layer({}, client))))
})

describe("a burst of waiters on a server that knows neither the scripts nor the layer", () => {
  it.live("is served in the order in which they asked", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const redis = yield* connect(url)
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make("key", { ttl: "1 minute" })
        const each = Array.from({ length: 2000 }, (_, index) => index)
        const order: Array<number> = []
        yield* Effect.forEach(each, (index) => mutex.withPermits(1)(Effect.sync(() => order.push(index))), {
          concurrency: "unbounded"
        })
        expect(order).toEqual(each)
      }).pipe(Effect.provide(RedisBacking.layer(redis)))
    }), 60_000)
})

describe("a ttl of more than a century", () => {
  it.live("is kept, and its hold is released", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make(freshKey(), { ttl: Number.MAX_VALUE })
      yield* semaphore.withPermits(1)(Effect.map(semaphore.currentCount, (count) => expect(count).toBe(1)))
      expect(yield* semaphore.currentCount).toBe(0)
    }).pipe(Effect.provide(layer())))
})

describe("the largest limit", () => {
  it.live("is kept, and all of its permits can be acquired at once", () =>
    Effect.gen(function*() {
      const limit = Number.MAX_SAFE_INTEGER
      const semaphore = yield* DistributedSemaphore.make(freshKey(), { limit, ttl: "1 minute" })
      yield* semaphore.withPermits(limit)(
        Effect.map(semaphore.tryTake(1), (taken) => expect(taken).toEqual(Option.none()))
      )
      expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
    }).pipe(Effect.scoped, Effect.provide(layer())))
})

describe("misuse", () => {
  it.live("sends no command", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const redis = yield* connect(url)
      yield* Effect.promise(() => redis.ping())
      const { commands } = yield* commandsDuring(
        url,
        Effect.gen(function*() {
          yield* Effect.exit(DistributedSemaphore.make(""))
          yield* Effect.exit(DistributedSemaphore.make("key", { limit: 0 }))
          yield* Effect.exit(DistributedSemaphore.make("key", { ttl: 0 }))
          const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
          yield* Effect.exit(semaphore.withPermits(3)(Effect.void))
          yield* Effect.exit(semaphore.tryTake(0))
          yield* Effect.exit(semaphore.take(1, { acquiredExternally: true }))
        }).pipe(Effect.provide(RedisBacking.layer(redis)))
      )
      expect(commands).toEqual([])
      expect(yield* keys(redis)).toEqual([])
    }))
})
