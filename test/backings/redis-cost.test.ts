/** C1 to C5, counted on the server. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Stream } from "effect"
import type { Scope } from "effect"
import type { Redis } from "ioredis"
import { DistributedSemaphore, DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import { commandsDuring, connect, connectedClients, keys, server } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

/** Calls by command, those inside of scripts included. */
const commandStats = (redis: Redis) =>
  Effect.map(
    Effect.promise(() => redis.info("commandstats")),
    (info) =>
      new Map(Array.from(info.matchAll(/^cmdstat_([\w|]+):calls=(\d+)/gm), ([, name, calls]) => [name!, Number(calls)]))
  )

const withServer = <A, E>(
  body: (context: { readonly url: string; readonly redis: Redis; readonly observer: Redis }) => Effect.Effect<
    A,
    E,
    DistributedSemaphoreBacking | Scope.Scope
  >
) =>
  Effect.gen(function*() {
    const { url } = yield* server
    const redis = yield* connect(url)
    const observer = yield* connect(url)
    return yield* Effect.provide(body({ url, redis, observer }), RedisBacking.layer(redis))
  })

describe("the cost", () => {
  it.live("of an uncontended cycle is 2 scripts and no other command", () =>
    withServer(({ observer, url }) =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key")
        const cycle = semaphore.withPermits(1)(Effect.void)
        yield* cycle
        const before = yield* commandStats(observer)
        const { commands } = yield* commandsDuring(url, Effect.repeat(cycle, { times: 9 }))
        const after = yield* commandStats(observer)
        expect(commands).toEqual(Array.from({ length: 20 }, () => "evalsha"))
        expect(after.get("evalsha")! - before.get("evalsha")!).toBe(20)
        expect(after.get("publish")).toBeUndefined()
        expect(after.get("subscribe")).toBeUndefined()
      })
    ))

  it.live.each([10, 100, 1000])(
    "of a hand-off is at most 5 commands, with %d waiters",
    (waiters) =>
      withServer(({ redis, url }) =>
        Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key", { ttl: "1 minute" })
          yield* semaphore.withPermits(1)(Effect.void)
          const open = yield* Deferred.make<void>()
          const holder = yield* Effect.forkScoped(semaphore.withPermits(1)(Deferred.await(open)), {
            startImmediately: true
          })
          let handedOff = 0
          const line = yield* Effect.forEach(Array.from({ length: waiters }), () =>
            Effect.forkScoped(
              semaphore.withPermits(1)(Effect.sync(() => handedOff++)),
              { startImmediately: true }
            ))
          yield* until(
            Effect.map(Effect.promise(() => redis.zcard("semaphore:{key}:line")), (length) => length === waiters)
          )
          // All have looked again since the subscription stood, so that nothing but hand-offs is left to do.
          yield* quiet(url)

          const { commands } = yield* commandsDuring(
            url,
            Effect.andThen(Deferred.succeed(open, undefined), Fiber.joinAll([holder, ...line]))
          )
          expect(handedOff).toBe(waiters)
          expect(new Set(commands)).toEqual(new Set(["evalsha"]))
          expect(commands.length / waiters).toBeLessThanOrEqual(2.2)
        })
      ),
    60_000
  )

  it.live("of many releases at once is one message for each who can go", () =>
    withServer(({ observer }) =>
      Effect.gen(function*() {
        const backing = yield* DistributedSemaphoreBacking
        const ttl = Duration.minutes(1)
        const each = Array.from({ length: 200 }, (_, index) => String(index))
        // The channel stands as long as somebody listens.
        const listening = yield* Deferred.make<void>()
        yield* Effect.forkScoped(
          Stream.runForEach(backing.onPermitsReleased!("key"), () => Deferred.done(listening, Exit.void))
        )
        yield* Deferred.await(listening)
        for (const id of each) yield* backing.tryAcquire("key", `holder ${id}`, ttl, 200, 1)
        for (const id of each) yield* backing.tryAcquire("key", `waiter ${id}`, ttl, 200, 1, { queue: true })
        yield* Effect.forEach(each, (id) => backing.release("key", `holder ${id}`, 1), { concurrency: "unbounded" })
        const stats = yield* commandStats(observer)
        expect(stats.get("publish")).toBe(200)
        // Neither do their looks cost more the more of them can go, in whatever order they come.
        const before = stats.get("hget") ?? 0
        for (const id of each.toReversed()) {
          expect(yield* backing.tryAcquire("key", `waiter ${id}`, ttl, 200, 1, { queue: true })).toMatchObject({
            _tag: "Acquired"
          })
        }
        expect(((yield* commandStats(observer)).get("hget")! - before) / 200).toBeLessThanOrEqual(6)
      })
    ))

  it.live("of hand-offs between processes that queue anew each time is at most 5 commands", () =>
    withServer(({ redis, url }) =>
      Effect.gen(function*() {
        // Two layers are two processes to the server. Each of four workers queues for every single hand-off.
        const contend = Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key", { ttl: "1 minute" })
          const worker = Effect.repeat(semaphore.withPermits(1)(Effect.sleep("1 millis")), { times: 99 })
          yield* Effect.all([worker, worker], { concurrency: "unbounded" })
        })
        const { commands } = yield* commandsDuring(
          url,
          Effect.all([contend, Effect.provide(contend, RedisBacking.layer(redis))], { concurrency: "unbounded" })
        )
        expect(commands.length / 400).toBeLessThanOrEqual(5)
      })
    ))

  it.live(
    "of 1000 waiters of one process is 2 connections, and at most a command per waiter every ttl/3",
    () =>
      withServer(({ observer, redis, url }) =>
        Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key", { ttl: "12 seconds" })
          yield* semaphore.take(1)
          yield* Effect.forEach(
            Array.from({ length: 1000 }),
            () => Effect.forkScoped(semaphore.withPermits(1)(Effect.void), { startImmediately: true })
          )
          yield* until(Effect.map(
            Effect.promise(() => redis.zcard("semaphore:{key}:line")),
            (length) => length === 1000
          ))
          // The client, its subscriber, and the observer of this test.
          yield* until(Effect.map(connectedClients(observer), (clients) => clients === 3))
          yield* quiet(url)

          const { commands } = yield* commandsDuring(url, Effect.sleep("8 seconds"))
          // In two times ttl/3: two looks of each waiter, one more a second of the first, two refreshes of the holder.
          expect(commands.length).toBeLessThanOrEqual(2 * 1000 + 8 + 2)
          expect(commands.length).toBeGreaterThan(1000)
          yield* until(Effect.map(connectedClients(observer), (clients) => clients === 3))
        })
      ),
    60_000
  )

  it.live("does not grow with the number of permits", () =>
    withServer(({ observer, redis }) =>
      Effect.gen(function*() {
        const cost = (permits: number) =>
          Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make(`key-${permits}`, { limit: 10_000_000 })
            const before = yield* commandStats(observer)
            const bytes = yield* semaphore.withPermits(permits)(
              Effect.promise(() =>
                redis.call("MEMORY", "USAGE", `semaphore:{key-${permits}}:holders`) as Promise<number>
              )
            )
            const after = yield* commandStats(observer)
            const calls = ["zadd", "zrem", "hset", "hdel", "pexpireat", "evalsha"].map((name) =>
              (after.get(name) ?? 0) - (before.get(name) ?? 0)
            )
            return { calls, bytes }
          })
        yield* cost(2)
        const one = yield* cost(1)
        for (const permits of [10_000, 10_000_000]) {
          const many = yield* cost(permits)
          expect(many.calls).toEqual(one.calls)
          expect(Math.abs(many.bytes - one.bytes)).toBeLessThan(32)
        }
      })
    ))

  it.live("of an idle key is nothing, once its ttl has passed", () =>
    withServer(({ observer }) =>
      Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "500 millis" })
        const backing = yield* DistributedSemaphoreBacking
        yield* semaphore.withPermits(1)(Effect.void)
        yield* backing.tryAcquire("crashed", "holder", Duration.millis(500), 1, 1)
        yield* backing.tryAcquire("crashed", "waiter", Duration.millis(500), 1, 1, { queue: true })
        yield* backing.release("unknown", "nobody", 1)
        yield* backing.getCount("unknown", Duration.millis(500))
        expect((yield* keys(observer)).length).toBeGreaterThan(0)
        yield* until(Effect.map(keys(observer), (left) => left.length === 0), "700 millis")
      })
    ))
})

/** Waits until no command has come for a while. */
const quiet = (url: string) =>
  until(
    Effect.map(commandsDuring(url, Effect.sleep("300 millis")), ({ commands }) => commands.length <= 1),
    "20 seconds"
  )
