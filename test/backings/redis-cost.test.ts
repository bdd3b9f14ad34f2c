/** C1 to C5, counted on the server. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Stream } from "effect"
import type { Redis } from "ioredis"
import type { Waiting } from "../../src/core/Backing.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import { commandsDuring, keys } from "../utils/redis.ts"
import { inLine, inProcess, quiet, withServer } from "../utils/redisCounted.ts"
import { inBoth } from "../utils/twoProcesses.ts"
import { until } from "../utils/until.ts"

/** Returns how often each command was called, also inside of scripts. */
const commandStats = (redis: Redis) =>
  Effect.map(
    Effect.promise(() => redis.info("commandstats")),
    (info) =>
      new Map(Array.from(info.matchAll(/^cmdstat_([\w|]+):calls=(\d+)/gm), ([, name, calls]) => [name!, Number(calls)]))
  )

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

  it.live.each(
    [
      [10, "within a process", 0],
      [100, "within a process", 0],
      [1000, "within a process", 0],
      [10, "to another process", 1],
      [100, "to another process", 1],
      [1000, "to another process", 1]
    ] as const
  )(
    "of a hand-off is 1 script, with %d waiters, and %s %d messages",
    ([waiters, , messages]) =>
      withServer(({ observer, redis, url }) =>
        Effect.gen(function*() {
          const here = yield* Effect.context<DistributedSemaphoreBacking>()
          const there = messages === 0 ? here : yield* Layer.build(RedisBacking.layer(redis))
          const [semaphore, other] = yield* inBoth([here, there], "key", { ttl: "1 minute" })
          // Loads the scripts, and asks for the time.
          for (const either of [semaphore, other]) yield* either.withPermits(1)(Effect.void)
          const open = yield* Deferred.make<void>()
          const holder = yield* Effect.forkScoped(semaphore.withPermits(1)(Deferred.await(open)), {
            startImmediately: true
          })
          let handedOff = 0
          const line = yield* Effect.forEach(Array.from({ length: waiters }), (_, index) =>
            Effect.forkScoped(
              (index % 2 === 0 ? other : semaphore).withPermits(1)(Effect.sync(() => handedOff++)),
              { startImmediately: true }
            ))
          yield* until(inLine(redis, 1 + waiters))
          // All have looked since the subscription stood, so that nothing but hand-offs is left to do.
          yield* quiet(url)

          const before = yield* commandStats(observer)
          const start = performance.now()
          const all = yield* commandsDuring(
            url,
            Effect.andThen(Deferred.succeed(open, undefined), Fiber.joinAll([holder, ...line]))
          )
          // The process subscribes to revocations once when it has held, or waited, for a second.
          const commands = all.commands.filter((command) => command !== "subscribe")
          const seconds = (performance.now() - start) / 1000
          const after = yield* commandStats(observer)
          expect(handedOff).toBe(waiters)
          expect(new Set(commands)).toEqual(new Set(["evalsha"]))
          expect(commands.length).toBeGreaterThan(waiters)
          // The releases, and the look of the first in line, once a second.
          expect(commands.length).toBeLessThanOrEqual(waiters + 1 + Math.ceil(seconds))
          expect((after.get("publish") ?? 0) - (before.get("publish") ?? 0)).toBe(messages * waiters)
        })
      ),
    60_000
  )

  it.live("of many grants in one step is one message to each other process", () =>
    withServer(({ observer, redis }) =>
      Effect.gen(function*() {
        const here = yield* DistributedSemaphoreBacking
        const there = Context.get(yield* Layer.build(RedisBacking.layer(redis)), DistributedSemaphoreBacking)
        const ttl = Duration.minutes(1)
        const each = Array.from({ length: 100 }, (_, index) => String(index))
        const granted: Array<[typeof here, bigint]> = []
        const standing = new Set<typeof here>()
        for (const backing of [here, there]) {
          yield* Effect.forkScoped(
            Stream.runForEach(backing.onPermitsReleased!("key"), (token) =>
              Effect.sync(() => {
                if (token === undefined) standing.add(backing)
                else granted.push([backing, token])
              }))
          )
        }
        yield* until(Effect.sync(() => standing.size === 2))
        yield* here.tryAcquire("key", "holder", ttl, 200, 200)
        const places: Array<[typeof here, bigint]> = []
        for (const id of each) {
          for (const [name, backing] of [["here", here], ["there", there]] as const) {
            const answer = yield* backing.tryAcquire("key", `${name} ${id}`, ttl, 200, 1, { queue: true })
            places.push([backing, (answer as Waiting).fencingToken!])
          }
        }
        expect((yield* commandStats(observer)).get("publish")).toBeUndefined()
        yield* here.release("key", "holder", 200)
        yield* until(Effect.sync(() => granted.length === 200))
        expect((yield* commandStats(observer)).get("publish")).toBe(1)
        for (const backing of [here, there]) {
          const ofBacking = (all: typeof places) => all.filter(([owner]) => owner === backing).map(([, token]) => token)
          expect(ofBacking(granted)).toEqual(ofBacking(places))
        }
      })
    ))

  it.live("of an acquire and its release is 2 scripts, also if the workers of two processes queue anew each time", () =>
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
        const scripts = commands.filter((name) => name === "evalsha")
        expect(scripts.length).toBeGreaterThanOrEqual(2 * 400)
        // A few more come until the channels stand.
        expect(scripts.length).toBeLessThanOrEqual(2 * 400 + 20)
        expect(commands.length - scripts.length).toBeLessThanOrEqual(20)
      })
    ))

  it.live("of 10 000 waiters of one key is less than 400 MB, and they acquire in order", () =>
    withServer(({ url }) =>
      Effect.gen(function*() {
        const { inOrder, residentMegabytes } = yield* inProcess(url, "waiters", "10000")
        expect(inOrder).toBe(true)
        expect(residentMegabytes).toBeLessThan(400)
      })
    ))

  it.live("does not grow with the number of permits", () =>
    withServer(({ observer, redis }) =>
      Effect.gen(function*() {
        const cost = (permits: number) =>
          Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make(`key-${permits}`, { limit: 10_000_000 })
            const before = yield* commandStats(observer)
            const bytes = yield* semaphore.withPermits(permits)(
              Effect.promise(() => redis.call("MEMORY", "USAGE", `semaphore:{key-${permits}}`) as Promise<number>)
            )
            const after = yield* commandStats(observer)
            const calls = ["zadd", "zrem", "pexpireat", "evalsha"].map((name) =>
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
        yield* until(Effect.map(keys(observer), (left) => left.length === 0), "3 seconds")
      })
    ))
})
