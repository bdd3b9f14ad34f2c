/** What operators see of semaphores in Redis, and what they can do. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Context, DateTime, Duration, Effect, Exit, Layer, Stream } from "effect"
import type { Redis } from "ioredis"
import { hostname } from "node:os"
import { DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import { connect, server } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

const ttl = Duration.minutes(1)

const build = (redis: Redis, options: RedisBacking.RedisBackingOptions = {}) =>
  Effect.map(Layer.build(RedisBacking.layer(redis, options)), Context.get(DistributedSemaphoreBacking))

const withRedis = Effect.flatMap(server, ({ url }) => connect(url))

const now = Effect.map(DateTime.now, DateTime.toEpochMillis)

describe("the owner", () => {
  it.live("is the host name and the process id by default, and what the option says otherwise", () =>
    Effect.gen(function*() {
      const redis = yield* withRedis
      const owner = "invoices: {worker} 7\ud800\n%"
      const [here, there] = [yield* build(redis), yield* build(redis, { owner, pushBasedAcquireEnabled: false })]
      yield* here.tryAcquire("key", "a", ttl, 1, 1)
      yield* there.tryAcquire("key", "b", ttl, 1, 1, { queue: true })
      const { holders, line } = yield* here.inspect!("key")
      expect([...holders, ...line].map(({ owner }) => owner)).toEqual([`${hostname()}:${process.pid}`, owner])
    }))

  it.live("is the process that took a hold or a place over, by asking again or by refreshing", () =>
    Effect.gen(function*() {
      const redis = yield* withRedis
      const [one, other] = [yield* build(redis, { owner: "one" }), yield* build(redis, { owner: "other" })]
      const owners = Effect.map(
        one.inspect!("key"),
        ({ holders, line }) => [...holders, ...line].map(({ owner }) => owner)
      )
      for (const id of ["a", "b"]) yield* one.tryAcquire("key", id, ttl, 1, 1, { queue: true })
      for (const id of ["a", "b"]) yield* other.tryAcquire("key", id, ttl, 1, 1, { queue: true })
      expect(yield* owners).toEqual(["other", "other"])
      for (const id of ["a", "b"]) yield* one.refresh("key", id, ttl, 1, 1)
      expect(yield* owners).toEqual(["one", "one"])
      expect(yield* one.release("key", "a", 1)).toBe(1)
      expect(yield* one.getCount("key", ttl)).toBe(1)
    }))

  it.live("must not be empty", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(build(yield* withRedis, { owner: "" }))
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBeInstanceOf(Cause.IllegalArgumentError)
    }))
})

it.live("inspect says when a contender first asked, by the server's clock", () =>
  Effect.gen(function*() {
    const backing = yield* build(yield* withRedis)
    const before = yield* now
    yield* backing.tryAcquire("key", "a", ttl, 1, 1)
    const after = yield* now
    yield* Effect.sleep("20 millis")
    yield* backing.refresh("key", "a", ttl, 1, 1)
    const { holders: [holder] } = yield* backing.inspect!("key")
    const since = DateTime.toEpochMillis(holder!.since!)
    expect(since).toBeGreaterThanOrEqual(before)
    expect(since).toBeLessThanOrEqual(after)
  }))

it.live("layerConfig reads the options from the configuration", () =>
  Effect.gen(function*() {
    const redis = yield* withRedis
    const layer = RedisBacking.layerConfig(redis, {
      keyPrefix: Config.String("PREFIX"),
      pushBasedAcquireEnabled: Config.Boolean("PUSH"),
      owner: Config.String("OWNER")
    })
    const provider = ConfigProvider.fromUnknown({ PREFIX: "jobs:", PUSH: "false", OWNER: "worker 7" })
    const backing = Context.get(
      yield* Layer.build(Layer.provide(layer, ConfigProvider.layer(provider))),
      DistributedSemaphoreBacking
    )
    yield* backing.tryAcquire("key", "a", ttl, 1, 1)
    expect(yield* Effect.promise(() => redis.keys("*"))).toEqual(["jobs:{key}"])
    expect((yield* backing.inspect!("key")).holders).toMatchObject([{ owner: "worker 7" }])
    expect([backing.onPermitsReleased, backing.onRevoked, backing.onChanged]).toEqual([undefined, undefined, undefined])
  }))

describe("keys", () => {
  it.live("lists neither a key that was released nor one whose contenders have expired", () =>
    Effect.gen(function*() {
      const redis = yield* withRedis
      const backing = yield* build(redis)
      const brief = Duration.millis(50)
      for (const key of ["held", "released", "expired"]) yield* backing.tryAcquire(key, "a", ttl, 1, 1)
      yield* backing.tryAcquire("expired", "b", brief, 1, 1, { queue: true })
      for (const key of ["released", "expired"]) yield* backing.release(key, "a", 1)
      yield* Effect.sleep(Duration.times(brief, 2))
      expect((yield* Effect.promise(() => redis.keys("*"))).length).toBe(3)
      expect(yield* Stream.runCollect(backing.keys!)).toEqual(["held"])
    }))

  it.live("goes on beside names and messages of others that only look escaped, as `onRevoked` does", () =>
    Effect.gen(function*() {
      const redis = yield* withRedis
      const backing = yield* build(redis)
      const heard: Array<unknown> = []
      yield* Effect.forkScoped(
        Stream.runForEach(backing.onRevoked!, (revocation) => Effect.sync(() => heard.push(revocation)))
      )
      yield* Effect.promise(() => redis.zadd("semaphore:{%110000;}", 2 ** 52, "1:1:1:"))
      expect(yield* Stream.runCollect(backing.keys!)).toEqual([])
      yield* until(
        Effect.map(Effect.promise(() => redis.publish("semaphore:revocations", "%110000;\nx")), (heard) => heard > 0)
      )
      yield* until(Effect.sync(() => heard.length > 0))
      expect(heard[0]).toEqual({ key: "%110000;", holderId: "x" })
    }))

  it.live("lists a key that only waiters have", () =>
    Effect.gen(function*() {
      const backing = yield* build(yield* withRedis)
      yield* backing.tryAcquire("key", "a", Duration.millis(20), 1, 1)
      yield* backing.tryAcquire("key", "b", ttl, 1, 1, { queue: true })
      yield* Effect.sleep("40 millis")
      expect(yield* Stream.runCollect(backing.keys!)).toEqual(["key"])
    }))

  it.live(
    "lists the thousands of keys of its keyPrefix, whatever that and the client's are, and no others",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server
        const redis = yield* connect(url, { keyPrefix: "client[0-9]*{x}:" })
        const [own, longer, shorter] = yield* Effect.forEach(
          ["jobs?\\{y}:", "jobs?\\{y}:{a}:", "jobs?\\{y}"],
          (keyPrefix) => build(redis, { keyPrefix })
        )
        const keys = Array.from({ length: 3000 }, (_, index) => `${index} {€}:%7b;\ud800`)
        for (const backing of [longer!, shorter!]) yield* backing.tryAcquire("other", "a", ttl, 1, 1)
        yield* Effect.forEach(keys, (key) => own!.tryAcquire(key, "a", ttl, 1, 1), {
          concurrency: "unbounded",
          discard: true
        })
        yield* Effect.promise(() => redis.set("jobs?\\{y}:{string}", "of somebody else"))
        const listed = yield* Stream.runCollect(own!.keys!)
        expect(listed.toSorted()).toEqual(keys.toSorted())
      }),
    20_000
  )
})

describe("a key that is watched", () => {
  it.live("notifies of each operation on it, even if nobody waits", () =>
    Effect.gen(function*() {
      const redis = yield* withRedis
      const [watching, working] = [yield* build(redis), yield* build(redis)]
      let heard = 0
      yield* Effect.forkScoped(Stream.runForEach(watching.onChanged!("key"), () => Effect.sync(() => heard++)))
      yield* working.tryAcquire("key", "a", ttl, 2, 1)
      yield* until(Effect.map(mark(redis), (until) => until !== null))
      for (
        const operation of [
          working.tryAcquire("key", "b", ttl, 2, 1),
          working.refresh("key", "b", ttl, 2, 1),
          working.release("key", "b", 1),
          working.release("key", "a", 1)
        ]
      ) {
        const before = heard
        yield* operation
        yield* until(Effect.sync(() => heard > before), "500 millis")
      }
    }))

  it.live("costs no more than before once nobody has watched it for a while", () =>
    Effect.gen(function*() {
      const redis = yield* withRedis
      const backing = yield* build(redis)
      const cycle = Effect.andThen(backing.tryAcquire("key", "a", ttl, 1, 1), backing.release("key", "a", 1))
      yield* cycle
      yield* Effect.promise(() => redis.zadd("semaphore:{key}", String(Date.now() * 1000 - 1), "watched"))
      yield* cycle
      expect(yield* mark(redis)).toBeNull()
      expect(yield* Effect.promise(() => redis.zrange("semaphore:{key}", "0", "-1"))).toEqual(["last"])
    }))

  it.live("is not created by being watched", () =>
    Effect.gen(function*() {
      const redis = yield* withRedis
      const backing = yield* build(redis)
      yield* Effect.forkScoped(Stream.runDrain(backing.onChanged!("key")), { startImmediately: true })
      yield* Effect.sleep("100 millis")
      expect(yield* Effect.promise(() => redis.keys("*"))).toEqual([])
    }))
})

const mark = (redis: Redis) => Effect.promise(() => redis.zscore("semaphore:{key}", "watched"))
