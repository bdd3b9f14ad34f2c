import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Option, Scope } from "effect"
import type { RedisOptions } from "ioredis"
import { inject } from "vitest"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease, RedisBacking } from "../../src/index.ts"
import { commandsDuring, connect, keys, server } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

let fresh = 0
const freshKey = () => `redis-${process.pid}-${fresh++}`

const layer = (options: RedisBacking.RedisBackingOptions = {}, client: Omit<RedisOptions, "replyMapping"> = {}) =>
  Layer.unwrap(Effect.map(connect(inject("redisUrl"), client), (redis) => RedisBacking.layer(redis, options)))

describe("keys and identifiers are arbitrary strings", () => {
  const long = "long".repeat(2500)
  const strings = [
    "a",
    "a_0",
    "a:b",
    "a:",
    "}{",
    "{}",
    "{a}",
    "a}:line",
    "%7d;",
    "}",
    "😀",
    "é",
    "\0",
    "a\0",
    "\ud800",
    "\udc00"
  ]
  const all = [...strings, " ", "a b", "\"'`", "$1;drop", "*", "[a]", "\n", long, `${long}!`]

  it.live("as keys: each is a semaphore of its own", () =>
    Effect.gen(function*() {
      for (const [index, key] of all.entries()) {
        const semaphore = yield* DistributedSemaphore.make(key, { limit: index + 1 })
        yield* semaphore.take(index + 1)
      }
      for (const [index, key] of all.entries()) {
        const semaphore = yield* DistributedSemaphore.make(key, { limit: index + 1 })
        expect([key, yield* semaphore.currentCount]).toEqual([key, index + 1])
      }
    }).pipe(Effect.scoped, Effect.provide(layer({ keyPrefix: freshKey() }))))

  it.live("as identifiers: each is a holder of its own, and comes back from inspect as it was", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make(freshKey(), { limit: all.length })
      for (const identifier of all) yield* semaphore.take(1, { identifier })
      const { holders } = yield* semaphore.inspect
      expect(holders.map(({ identifier }) => identifier)).toEqual(all)
    }).pipe(Effect.scoped, Effect.provide(layer())))

  it.live("as waiters: each is woken by its own name", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("}{ \0 😀", { ttl: "1 minute" })
      const order: Array<string> = []
      yield* Effect.forEach(all, (identifier) =>
        semaphore.withPermits(1, { identifier })(Effect.sync(() => order.push(identifier))), {
        concurrency: "unbounded"
      })
      expect(order).toEqual(all)
    }).pipe(Effect.timeout("10 seconds"), Effect.provide(layer({ keyPrefix: freshKey() }))))

  it.live("pairs of key and identifier never collide", () =>
    Effect.gen(function*() {
      const backing = yield* DistributedSemaphoreBacking
      const ttl = Duration.minutes(1)
      for (const [key, id] of [["a", "b_c"], ["a_b", "c"], ["a:b", "c"], ["a", "b:c"]] as const) {
        expect(yield* backing.tryAcquire(key, id, ttl, 2, 1)).toMatchObject({ _tag: "Acquired" })
      }
    }).pipe(Effect.provide(layer({ keyPrefix: freshKey() }))))
})

describe("order, between processes", () => {
  it.live("100 waiters of four layers go in the order in which they began to wait", () =>
    Effect.gen(function*() {
      const key = freshKey()
      const make = Effect.flatMap(Layer.build(Layer.fresh(layer())), (context) =>
        Effect.provide(DistributedSemaphore.make(key, { ttl: "1 minute" }), context))
      const semaphores = yield* Effect.all([make, make, make, make])
      const observer = yield* connect(inject("redisUrl"))
      const holder = yield* Scope.make()
      yield* Scope.provide(semaphores[0]!.take(1), holder)

      const order: Array<number> = []
      for (let index = 0; index < 100; index++) {
        yield* Effect.forkScoped(
          semaphores[index % 4]!.withPermits(1)(Effect.sync(() =>
            order.push(index)
          )),
          {
            startImmediately: true
          }
        )
        yield* until(
          Effect.map(Effect.promise(() => observer.zcard(`semaphore:{${key}}:line`)), (length) => length === index + 1)
        )
      }
      yield* Scope.close(holder, Exit.void)
      yield* until(Effect.sync(() => order.length === 100))
      expect(order).toEqual(Array.from({ length: 100 }, (_, index) => index))
    }))
})

describe("order, whatever number of permits is wanted", () => {
  it.live("5 of 5 among a stream of ones get their turn, and tryTake does not overtake", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make(freshKey(), { limit: 5, ttl: "1 minute" })
      const order: Array<string> = []
      const lineIs = (length: number) => until(Effect.map(semaphore.inspect, ({ line }) => line.length === length))
      const holder = yield* Scope.make()
      yield* Scope.provide(semaphore.take(1), holder)
      const ask = (name: string, permits: number) =>
        Effect.forkScoped(
          semaphore.withPermits(permits)(
            Effect.andThen(Effect.sync(() => order.push(name)), Effect.sleep("50 millis"))
          ),
          { startImmediately: true }
        )
      yield* ask("all", 5)
      yield* lineIs(1)
      for (const [index, name] of ["a", "b", "c"].entries()) {
        yield* ask(name, 1)
        yield* lineIs(index + 2)
      }
      // Four permits are free, but who waits for five comes first.
      expect(yield* semaphore.tryTake(1)).toEqual(Option.none())
      expect(order).toEqual([])
      yield* Scope.close(holder, Exit.void)
      yield* until(Effect.sync(() => order.length === 4))
      expect(order[0]).toBe("all")
    }).pipe(Effect.provide(layer())))
})

describe("clocks", () => {
  it.live.each([60_000, -60_000])(
    "a client whose clock is %d ms off steals nothing and loses nothing",
    (offset) =>
      Effect.gen(function*() {
        const right = yield* DistributedSemaphore.make(freshKey(), { ttl: "600 millis" })
        const { key } = right
        const now = Date.now
        yield* Effect.acquireRelease(
          Effect.sync(() => void (Date.now = () => now() + offset)),
          () => Effect.sync(() => void (Date.now = now))
        )
        const wrong = yield* DistributedSemaphore.make(key, { ttl: "600 millis" })
        // Neither overtakes the other's hold, although each outlasts its ttl.
        for (const [holder, other] of [[wrong, right], [right, wrong]] as const) {
          yield* holder.withPermits(1)(Effect.gen(function*() {
            yield* Effect.sleep("1 second")
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
      const tokens: Array<bigint> = []
      const work = Effect.gen(function*() {
        tokens.push(Option.getOrThrow((yield* Lease).fencingToken))
        expect(yield* semaphore.currentCount).toBeLessThanOrEqual(2)
      })
      yield* Effect.all(Array.from({ length: 20 }, () => semaphore.withPermits(1)(work)), { concurrency: "unbounded" })
      expect(tokens).toEqual(tokens.toSorted((a, b) => a < b ? -1 : 1))
      expect(yield* semaphore.inspect).toEqual({ holders: [], line: [] })
    }).pipe(Effect.timeout("900 millis"), Effect.provide(layer({}, client))))
})

describe("tokens", () => {
  it.live("go on rising after the key has vanished, and after the server has lost everything", () =>
    Effect.gen(function*() {
      const redisServer = yield* server
      const redis = yield* connect(redisServer.url)
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const token = Lease.pipe(
          Effect.flatMap((lease) => Effect.fromOption(lease.fencingToken)),
          semaphore.withPermits(1)
        )
        const tokens = [yield* token]
        yield* Effect.promise(() => redis.flushall())
        tokens.push(yield* token)
        yield* Effect.promise(redisServer.kill)
        yield* Effect.promise(redisServer.restart)
        tokens.push(yield* token)
        expect(tokens[1]).toBeGreaterThan(tokens[0]!)
        expect(tokens[2]).toBeGreaterThan(tokens[1]!)
      }).pipe(Effect.provide(RedisBacking.layer(redis)))
    }))
})

describe("a ttl of more than a century", () => {
  it.live("is kept, and given back", () =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make(freshKey(), { ttl: Number.MAX_VALUE })
      yield* semaphore.withPermits(1)(Effect.map(semaphore.currentCount, (count) => expect(count).toBe(1)))
      expect(yield* semaphore.currentCount).toBe(0)
    }).pipe(Effect.provide(layer())))
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
