/** A server that comes back empty: with `restartGrace`, nobody acquires while old holders may still work. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Layer, Option } from "effect"
import { Cluster } from "ioredis"
import type { Redis } from "ioredis"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import type { Server } from "../servers/server.ts"
import { connect, server } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

const grace = Duration.seconds(2)

const timeOf = (redis: Redis) =>
  Effect.map(Effect.promise(() => redis.time()), ([seconds, micros]) => Number(seconds) * 1000 + Number(micros) / 1000)

/** Starts a server, and builds a layer with a grace. The first grace is over. */
const started = Effect.gen(function*() {
  const own = yield* server
  const redis = yield* connect(own.url)
  const layer = yield* Effect.map(Layer.build(RedisBacking.layer(redis, { restartGrace: grace })), Layer.succeedContext)
  const make = (key: string, options?: DistributedSemaphore.DistributedSemaphoreConfig) =>
    Effect.provide(DistributedSemaphore.make(key, { ttl: grace, ...options }), layer)
  const first = yield* make("first")
  yield* Effect.scoped(first.take(1))
  return { make, own, redis }
})

const restart = (own: Server) =>
  Effect.promise(async () => {
    await own.kill()
    await own.restart()
  })

describe("a server that comes back empty", () => {
  it.live("grants nothing during the grace, and then in order; the old holder has stopped by then", () =>
    Effect.gen(function*() {
      const { make, own, redis } = yield* started
      const semaphore = yield* make("key")
      const worked: Array<string> = []
      const work = (name: string, then: Effect.Effect<void> = Effect.void) =>
        Effect.exit(
          semaphore.withPermits(1)(
            Effect.ensuring(
              Effect.andThen(Effect.sync(() => worked.push(name)), then),
              Effect.sync(() => worked.push(`${name} stops`))
            )
          )
        )
      const holder = yield* Effect.forkScoped(work("old holder", Effect.never))
      yield* until(Effect.sync(() => worked.length === 1))
      yield* restart(own)

      const back = yield* timeOf(redis)
      expect(Option.isNone(yield* Effect.scoped(semaphore.tryTake(1)))).toBe(true)
      const waiters: Array<Fiber.Fiber<unknown>> = []
      for (const name of ["first", "second"]) {
        const before = (yield* semaphore.inspect).waiterCount
        waiters.push(yield* Effect.forkScoped(work(name)))
        yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount > before))
      }
      expect(yield* semaphore.currentCount).toBe(0)
      yield* Fiber.awaitAll(waiters)
      expect((yield* timeOf(redis)) - back).toBeGreaterThanOrEqual(Duration.toMillis(grace))
      const lost = yield* Fiber.join(holder)
      expect(Exit.isFailure(lost) && Cause.squash(lost.cause)).toMatchObject({ _tag: "LockLostError" })
      expect(worked).toEqual(["old holder", "old holder stops", "first", "first stops", "second", "second stops"])

      // The key that the grace marked is removed. Only the record of the restart is left.
      yield* until(Effect.map(Effect.promise(() => redis.exists("semaphore:{key}")), (count) => count === 0))
      expect(yield* Effect.promise(() => redis.keys("*"))).toEqual(["semaphore:restart"])
    }))

  it.live("a place that ends during the grace makes nobody a holder", () =>
    Effect.gen(function*() {
      const { make, own } = yield* started
      yield* restart(own)
      const semaphore = yield* make("key", { ttl: "1 minute" })
      const wait = Effect.forkScoped(semaphore.withPermits(1)(Effect.never))
      const first = yield* wait
      yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 1))
      yield* wait
      yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 2))
      yield* Fiber.interrupt(first)
      expect(yield* semaphore.inspect).toMatchObject({ holderCount: 0, waiterCount: 1 })
      yield* until(Effect.map(semaphore.inspect, ({ holderCount }) => holderCount === 1))
    }))
})

it.live("a server that comes back with its data grants at once", () =>
  Effect.gen(function*() {
    const { make, own, redis } = yield* started
    yield* Effect.promise(() => redis.save())
    yield* restart(own)
    const semaphore = yield* make("key")
    expect(Option.isSome(yield* Effect.scoped(semaphore.tryTake(1)))).toBe(true)
  }))

it.live("restartGrace is refused with a Cluster, and if it is not a positive duration", () =>
  Effect.gen(function*() {
    const own = yield* server
    const redis = yield* connect(own.url)
    const cluster = new Cluster([own.url], { lazyConnect: true })
    for (const [client, restartGrace] of [[cluster, grace], [redis, "soon"], [redis, 0]] as const) {
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(RedisBacking.layer(client, { restartGrace } as never))))
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({
        _tag: "IllegalArgumentError",
        message: expect.stringContaining("restartGrace")
      })
    }
  }))
