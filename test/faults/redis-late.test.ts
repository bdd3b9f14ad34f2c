/** B12: an acquire that reaches Redis later than it may take effect has no effect. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, Option } from "effect"
import { Redis } from "ioredis"
import { DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import { connect, keys, server } from "../utils/redis.ts"

const ttl = Duration.minutes(1)
const within = Duration.millis(300)

const build = Effect.gen(function*() {
  const { freeze, thaw, url } = yield* server
  const redis = yield* connect(url)
  yield* Effect.promise(() => redis.ping())
  const backing = Context.get(yield* Layer.build(RedisBacking.layer(redis)), DistributedSemaphoreBacking)
  /** Runs `f` on a frozen server, which reads its requests `millis` later. */
  const whileFrozen = <A, E>(millis: number, f: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      yield* Effect.promise(freeze)
      const fiber = yield* Effect.forkScoped(f, { startImmediately: true })
      yield* Effect.sleep(millis)
      yield* Effect.promise(thaw)
      return fiber
    })
  return { backing, redis, url, whileFrozen }
})

const late = (exit: Exit.Exit<unknown, unknown>) => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit))
  expect(error).toMatchObject({ _tag: "SemaphoreBackingError", operation: "tryAcquire" })
  expect(String((error as { readonly cause: unknown }).cause)).toContain("reached the server too late")
}

describe("an acquire that a frozen server reads", () => {
  it.live.each([true, false])("too late gets neither a hold nor a place, queue %s", (queue) =>
    Effect.gen(function*() {
      const { backing, whileFrozen } = yield* build
      yield* backing.getCount("key", ttl)
      yield* backing.tryAcquire("taken", "other", ttl, 1, 1)
      const taken = yield* backing.inspect!("taken")

      const both = Effect.all([
        Effect.exit(backing.tryAcquire("key", "holder", ttl, 1, 1, { queue, within })),
        Effect.exit(backing.tryAcquire("taken", "holder", ttl, 1, 1, { queue, within }))
      ], { concurrency: "unbounded" })
      for (const exit of yield* Fiber.join(yield* whileFrozen(600, both))) late(exit)
      expect(yield* backing.inspect!("key")).toMatchObject({ holders: [], line: [] })
      expect(yield* backing.inspect!("taken")).toMatchObject({
        holders: taken.holders.map(({ fencingToken }) => ({ fencingToken })),
        line: []
      })
      // The next one is in time.
      expect(yield* backing.tryAcquire("key", "holder", ttl, 1, 1, { within })).toMatchObject({ _tag: "Acquired" })
    }))

  it.live("too late does not extend the hold of the same identifier", () =>
    Effect.gen(function*() {
      const { backing, whileFrozen } = yield* build
      yield* backing.tryAcquire("key", "holder", Duration.seconds(5), 1, 1)
      const again = backing.tryAcquire("key", "holder", ttl, 1, 1, { within })
      late(yield* Fiber.await(yield* whileFrozen(600, again)))
      const { holders: [hold] } = yield* backing.inspect!("key")
      expect(Duration.toSeconds(hold!.remaining)).toBeLessThan(5)
    }))

  it.live.each(["before", "after"])(
    "after its caller has gone leaves nothing, if it was sent %s the layer knew the server's time",
    (when) =>
      Effect.gen(function*() {
        const { backing, redis, url, whileFrozen } = yield* build
        // Another process has loaded the scripts.
        const other = Context.get(
          yield* Layer.build(RedisBacking.layer(yield* connect(url))),
          DistributedSemaphoreBacking
        )
        yield* other.tryAcquire("other", "holder", ttl, 1, 1, { within })
        if (when === "after") yield* backing.getCount("key", ttl)
        const fiber = yield* whileFrozen(
          600,
          Effect.timeoutOption(backing.tryAcquire("key", "holder", ttl, 1, 1, { within }), "100 millis")
        )
        expect(yield* Fiber.join(fiber)).toEqual(Option.none())
        expect(yield* backing.inspect!("key")).toMatchObject({ holders: [], line: [] })
        expect((yield* keys(redis)).filter((name) => name.includes("{key}"))).toEqual([])
      })
  )

  it.live("in time takes effect; without `within`, it takes effect at any time", () =>
    Effect.gen(function*() {
      const { backing, whileFrozen } = yield* build
      yield* backing.getCount("key", ttl)
      const inTime = backing.tryAcquire("key", "in time", ttl, 2, 1, { within: Duration.seconds(20) })
      const anyTime = backing.tryAcquire("key", "any time", ttl, 2, 1)
      for (const acquire of [inTime, anyTime]) {
        expect(yield* Fiber.join(yield* whileFrozen(600, acquire))).toMatchObject({ _tag: "Acquired" })
      }
    }))
})

describe("a server's clock", () => {
  it.live("that is set forward makes the server refuse one acquire that is in time, and no more", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const redis = yield* connect(url)
      // At first, the server's clock is a minute slow.
      let slow = 60_000_000
      const evalsha = redis.evalsha.bind(redis) as (...args: ReadonlyArray<unknown>) => Promise<[string]>
      redis.evalsha = (async (...args: ReadonlyArray<unknown>) => {
        const [time, ...rest] = await evalsha(...args)
        return [String(Number(time) - slow), ...rest]
      }) as unknown as Redis["evalsha"]
      const backing = Context.get(yield* Layer.build(RedisBacking.layer(redis)), DistributedSemaphoreBacking)
      yield* Effect.promise(() => new Promise((ready) => redis.once("ready", ready)))
      for (const operation of [1, 2]) yield* backing.getCount(`key ${operation}`, ttl)
      slow = 0
      const acquire = backing.tryAcquire("key", "holder", ttl, 1, 1, { within: Duration.seconds(20) })
      late(yield* Effect.exit(acquire))
      expect(yield* backing.getCount("key", ttl)).toBe(0)
      expect(yield* acquire).toMatchObject({ _tag: "Acquired" })
      expect(yield* Effect.exit(acquire)).toMatchObject({ _tag: "Success" })
    }))
})
