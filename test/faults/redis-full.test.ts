/** A Redis server that has reached `maxmemory`, with `noeviction`, keeps what exists, and refuses what is new. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Option, Schedule } from "effect"
import type { Redis } from "ioredis"
import { DistributedSemaphore, DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import { connect, keys, server } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

const ttl = Duration.minutes(1)

/** Fills the server with keys of another client, until it takes no more of them. */
const fill = (other: Redis) =>
  Effect.promise(async () => {
    for (let index = 0; index < 100; index++) await other.set(`other-${index}`, "x".repeat(10_000))
    await other.config("SET", "maxmemory-policy", "noeviction")
    await other.config("SET", "maxmemory", "1mb")
    await expect(other.set("other", "one more")).rejects.toThrow("OOM")
  })

const empty = (other: Redis) => Effect.promise(() => other.config("SET", "maxmemory", "0"))

const build = Effect.gen(function*() {
  const { url } = yield* server
  const other = yield* connect(url)
  const context = yield* Layer.build(RedisBacking.layer(yield* connect(url)))
  return { context, other, backing: Context.get(context, DistributedSemaphoreBacking) }
})

const refused = (effect: Effect.Effect<unknown, unknown>) =>
  Effect.map(Effect.flip(effect), (error) => {
    expect(error).toMatchObject({ _tag: "SemaphoreBackingError" })
    expect(String((error as { readonly cause: unknown }).cause)).toContain("OOM")
  })

/** Each has a server of its own. */
describe("on a full server", { concurrent: true }, () => {
  it.live("a hold is refreshed, extended and released", () =>
    Effect.gen(function*() {
      const { backing, other } = yield* build
      const short = Duration.seconds(5)
      const token = yield* backing.tryAcquire("key", "holder", short, 3, 2)
      yield* fill(other)
      const remaining = Effect.map(backing.inspect!("key"), ({ holders }) => Duration.toSeconds(holders[0]!.remaining))
      for (const minutes of [1, 2]) {
        expect(yield* backing.refresh("key", "holder", Duration.minutes(minutes), 3, 2)).toEqual(token)
        expect(yield* remaining).toBeGreaterThan(minutes * 60 - 5)
      }
      expect(yield* backing.tryAcquire("key", "holder", Duration.minutes(3), 3, 2)).toEqual(token)
      expect(yield* remaining).toBeGreaterThan(175)
      // A full server can also load the scripts again.
      yield* Effect.promise(() => other.script("FLUSH"))
      expect(yield* backing.refresh("key", "holder", ttl, 3, 2)).toEqual(token)
      expect(yield* backing.release("key", "holder", 1)).toBe(1)
      expect(yield* backing.refresh("key", "holder", ttl, 3, 1)).toEqual(token)
      expect(yield* backing.release("key", "holder", 1)).toBe(1)
      expect(yield* backing.refresh("key", "holder", ttl, 3, 1)).toBe(false)
      expect(yield* backing.getCount("key", ttl)).toBe(0)
    }))

  it.live("a new hold or place is refused, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const { backing, other } = yield* build
      yield* backing.tryAcquire("key", "holder", ttl, 3, 2)
      yield* backing.tryAcquire("key", "waiter", ttl, 3, 3, { queue: true })
      yield* backing.tryAcquire("roomy", "holder", ttl, 3, 2)
      yield* fill(other)
      const [stateBefore, keysBefore] = [yield* backing.inspect!("roomy"), (yield* keys(other)).toSorted()]
      for (const queue of [false, true]) {
        yield* refused(backing.tryAcquire("roomy", "new", ttl, 3, 1, { queue }))
        yield* refused(backing.tryAcquire("another", "new", ttl, 3, 1, { queue }))
      }
      yield* refused(backing.tryAcquire("key", "new", ttl, 3, 1, { queue: true }))
      expect(yield* backing.tryAcquire("key", "new", ttl, 3, 1)).toBe(false)
      expect(yield* backing.release("roomy", "new", 1)).toBe(0)
      expect((yield* keys(other)).toSorted()).toEqual(keysBefore)
      expect((yield* backing.inspect!("key")).line.map(({ identifier }) => identifier)).toEqual(["waiter"])
      const { holders, line } = yield* backing.inspect!("roomy")
      expect([holders.map(({ identifier }) => identifier), line]).toEqual([["holder"], stateBefore.line])
      expect(yield* backing.getCount("roomy", ttl)).toBe(2)

      yield* empty(other)
      expect(yield* backing.tryAcquire("roomy", "new", ttl, 3, 1)).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.getCount("roomy", ttl)).toBe(3)
    }))

  it.live("a place is kept, and becomes a hold", () =>
    Effect.gen(function*() {
      const { backing, other } = yield* build
      yield* backing.tryAcquire("key", "holder", ttl, 1, 1)
      yield* backing.tryAcquire("key", "waiter", Duration.seconds(5), 1, 1, { queue: true })
      yield* fill(other)
      const ask = backing.tryAcquire("key", "waiter", ttl, 1, 1, { queue: true })
      expect(yield* ask).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(Duration.toSeconds((yield* backing.inspect!("key")).line[0]!.remaining)).toBeGreaterThan(55)
      expect(yield* backing.release("key", "holder", 1)).toBe(1)
      expect(yield* ask).toMatchObject({ _tag: "Acquired" })
      expect(yield* backing.getCount("key", ttl)).toBe(1)
    }))

  it.live("for 10 s, a hold with a ttl of 3 s is kept, and its waiter acquires after it", () =>
    Effect.gen(function*() {
      const { context, other } = yield* build
      yield* Effect.gen(function*() {
        const config = { ttl: "3 seconds", backingFailureRetryPolicy: Schedule.recurs(0) } as const
        const mutex = yield* DistributedSemaphore.make("key", config)
        const roomy = yield* DistributedSemaphore.make("roomy", config)
        const done = yield* Deferred.make<void>()
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Deferred.await(done)))
        yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
        const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.succeed("done")))
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1))
        yield* fill(other)
        yield* Effect.sleep("10 seconds")
        expect(holder.pollUnsafe()).toBeUndefined()
        yield* refused(roomy.withPermitsIfAvailable(1)(Effect.void))
        yield* refused(roomy.withPermits(1)(Effect.void))
        expect(yield* mutex.withPermitsIfAvailable(1)(Effect.void)).toEqual(Option.none())
        yield* Deferred.succeed(done, undefined)
        expect(yield* Effect.timeout(Fiber.join(waiter), "1 second")).toBe("done")
        yield* Fiber.join(holder)
        expect(yield* mutex.currentCount).toBe(0)
      }).pipe(Effect.provide(context))
    }))
})
