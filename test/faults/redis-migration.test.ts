/** A Cluster moves a slot slowly: semaphores in it go on, and no request takes effect after it was given up. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, Option } from "effect"
import { Cluster } from "ioredis"
import type { Redis } from "ioredis"
import { slotOf } from "../../src/backings/redis/slots.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import * as RedisCluster from "../servers/redisCluster.ts"
import { connect } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

const slot = slotOf("semaphore:{key}")

/** The key of another semaphore in the same slot. */
const neighbour = Array.from({ length: 200_000 }, (_, index) => `key ${index}`)
  .find((key) => slotOf(`semaphore:{${key}}`) === slot)!

const build = (options: ConstructorParameters<typeof Cluster>[1] = {}) =>
  Effect.gen(function*() {
    const { ports } = yield* Effect.acquireRelease(
      Effect.promise(RedisCluster.start),
      (cluster) => Effect.promise(() => cluster.stop())
    )
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new Cluster(ports.map((port) => ({ host: "127.0.0.1", port })), options)),
      (client) => Effect.sync(() => client.disconnect())
    )
    const admins = yield* Effect.forEach(ports, (port) => connect(`redis://127.0.0.1:${port}`))
    const source = admins[Math.floor(slot / Math.ceil(16_384 / ports.length))]!
    const target = admins.find((admin) => admin !== source)!
    const idOf = (admin: Redis) => Effect.promise(() => admin.call("CLUSTER", "MYID") as Promise<string>)
    const setSlot = (admin: Redis, ...args: ReadonlyArray<string>) =>
      Effect.promise(() => admin.call("CLUSTER", "SETSLOT", slot, ...args))
    return {
      client,
      importing: Effect.flatMap(idOf(source), (id) => setSlot(target, "IMPORTING", id)),
      migrating: Effect.flatMap(idOf(target), (id) => setSlot(source, "MIGRATING", id)),
      stable: setSlot(source, "STABLE"),
      /** Moves one of the keys in the slot. */
      moveOne: Effect.promise(async () => {
        const [key] = await source.call("CLUSTER", "GETKEYSINSLOT", slot, 1) as [string]
        await source.call("MIGRATE", "127.0.0.1", target.options.port!, key, 0, 5000)
      })
    }
  })

describe("while a slot migrates", { concurrent: true }, () => {
  it.live(
    "for 10 s, a hold with a ttl of 3 s is kept, whether its key has moved or not, and its waiter acquires after it",
    () =>
      Effect.gen(function*() {
        const { client, importing, migrating, moveOne } = yield* build()
        yield* Effect.gen(function*() {
          const mutex = yield* DistributedSemaphore.make("key", { ttl: "3 seconds" })
          const other = yield* DistributedSemaphore.make(neighbour, { ttl: "3 seconds" })
          // The token that a used key keeps must not confuse the nodes.
          yield* mutex.withPermits(1)(Effect.void)
          yield* importing
          yield* migrating
          const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.sleep("10 seconds")))
          yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
          const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.succeed("done")))
          yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1))
          yield* other.withPermits(1)(Effect.void)
          yield* Effect.sleep("4 seconds")
          expect(holder.pollUnsafe()).toBeUndefined()
          yield* moveOne
          yield* other.withPermits(1)(Effect.void)
          expect(yield* Effect.timeout(Fiber.join(waiter), "10 seconds")).toBe("done")
          yield* Fiber.join(holder)
          yield* until(Effect.map(mutex.inspect, ({ holders, line }) => holders.length + line.length === 0))
        }).pipe(Effect.provide(RedisBacking.layer(client)))
      }),
    60_000
  )

  it.live("an acquire that the client repeats until it is too late has no effect", () =>
    Effect.gen(function*() {
      // The other node redirects everything back, so the client asks the two nodes in turn.
      const { client, migrating, stable } = yield* build({ retryDelayOnMoved: 200, maxRedirections: 100 })
      const backing = Context.get(yield* Layer.build(RedisBacking.layer(client)), DistributedSemaphoreBacking)
      const ttl = Duration.minutes(1)
      // The client knows the server's time only as exactly as this takes.
      const [inexactly] = yield* Effect.timed(backing.getCount("key", ttl))
      yield* migrating
      const late = yield* Effect.forkScoped(
        Effect.exit(backing.tryAcquire("key", "holder", ttl, 1, 1, { within: Duration.millis(300) })),
        { startImmediately: true }
      )
      yield* Effect.sleep(Duration.sum(inexactly, Duration.millis(600)))
      expect(late.pollUnsafe()).toBeUndefined()
      yield* stable
      const error = Option.getOrThrow(Exit.findErrorOption(yield* Effect.timeout(Fiber.join(late), "5 seconds")))
      expect(String(error.cause)).toContain("reached the server too late")
      expect(yield* backing.inspect!("key")).toMatchObject({ holders: [], line: [] })
      expect(yield* backing.tryAcquire("key", "holder", ttl, 1, 1, { within: Duration.seconds(20) }))
        .toMatchObject({ _tag: "Acquired" })
    }), 60_000)
})
