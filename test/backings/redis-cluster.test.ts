import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Option } from "effect"
import { Cluster } from "ioredis"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease, RedisBacking } from "../../src/index.ts"
import * as RedisCluster from "../servers/redisCluster.ts"
import { until } from "../utils/until.ts"

const cluster = Effect.acquireRelease(
  Effect.promise(RedisCluster.start),
  (cluster) => Effect.promise(() => cluster.stop())
)

const connect = (ports: ReadonlyArray<number>, options = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => new Cluster(ports.map((port) => ({ host: "127.0.0.1", port })), options)),
    (client) => Effect.sync(() => client.disconnect())
  )

/** Cuts the connections on which clients receive messages. */
const disconnectSubscribers = (client: Cluster) =>
  Effect.promise(() => Promise.all(client.nodes("master").map((node) => node.call("CLIENT", "KILL", "TYPE", "pubsub"))))

/** Keys of many slots, and some with braces, which would be in other slots if they were not escaped. */
const keys = [...Array.from({ length: 10 }, (_, index) => `key-${index}`), "{a}b", "}{", "a}"]

describe("a cluster of three masters", () => {
  it.live.each(
    [
      ["with push", {}, {}],
      ["with a keyPrefix of the client", {}, { keyPrefix: "app{x}:" }],
      ["with node options that are not meant for channels", {}, {
        redisOptions: { keyPrefix: "app:", stringNumbers: true }
      }],
      ["with a client that connects when it is first used", {}, { lazyConnect: true }],
      ["without push", { pushBasedAcquireEnabled: false }, {}]
    ] as const
  )(
    "keeps the limit, and repeats no token, for semaphores in any slot, %s",
    ([, options, clientOptions]) =>
      Effect.gen(function*() {
        const { ports } = yield* cluster
        const client = yield* connect(ports, clientOptions)
        // With push, polling would take longer than the test.
        const acquireRetryInterval = "pushBasedAcquireEnabled" in options ? "5 millis" : "1 minute"
        yield* Effect.forEach(keys, (key) =>
          Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make(key, { limit: 2, acquireRetryInterval })
            const tokens: Array<bigint> = []
            let out = 0
            let most = 0
            const work = Effect.gen(function*() {
              most = Math.max(most, ++out)
              tokens.push(Option.getOrThrow((yield* Lease).fencingToken))
              yield* Effect.sleep("3 millis")
              out--
            })
            yield* Effect.all(Array.from({ length: 12 }, () => semaphore.withPermits(1)(work)), {
              concurrency: "unbounded"
            })
            expect(most).toBe(2)
            expect(tokens).toHaveLength(12)
            expect(new Set(tokens).size).toBe(12)
            expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
          }), { concurrency: 4 }).pipe(
            Effect.timeout("20 seconds"),
            Effect.provide(RedisBacking.layer(client, options))
          )
      }),
    60_000
  )

  it.live(
    "refreshes many holds and places by one call for each slot, and answers in order",
    () =>
      Effect.gen(function*() {
        const { ports } = yield* cluster
        const client = yield* connect(ports, { keyPrefix: "app:" })
        yield* Effect.gen(function*() {
          const backing = yield* DistributedSemaphoreBacking
          const ttl = Duration.minutes(1)
          // Keys that share a slot are rare, so the test searches for some.
          const slots = yield* Effect.forEach(Array.from({ length: 4000 }, (_, index) => `key ${index}`), (key) =>
            Effect.map(
              Effect.promise(() =>
                client.cluster("KEYSLOT", `app:semaphore:{${key}}`)
              ),
              (slot) => [Number(slot), key] as const
            ), { concurrency: 100 })
          const bySlot = new Map<number, Array<string>>()
          for (const [slot, key] of slots) {
            bySlot.set(slot, [...bySlot.get(slot) ?? [], key])
          }
          const crowded = Array.from(bySlot.values()).filter((keys) =>
            keys.length > 1
          ).slice(0, 20)
          expect(crowded).toHaveLength(20)
          const chosen = [...crowded.flat(), ...keys]
          yield* Effect.forEach(chosen, (key) => backing.tryAcquire(key, "holder", ttl, 1, 1), { concurrency: 20 })
          yield* Effect.forEach(chosen, (key) => backing.tryAcquire(key, "waiter", ttl, 1, 1, { queue: true }))

          let calls = 0
          const evalsha = client.evalsha.bind(client) as (...args: ReadonlyArray<unknown>) => Promise<unknown>
          client.evalsha = ((...args: ReadonlyArray<unknown>) => {
            calls++
            return evalsha(...args)
          }) as unknown as Cluster["evalsha"]
          const requests = ["waiter", "nobody", "holder"].flatMap((holderId) =>
            chosen.map((key) => ({ key, holderId, ttl, limit: 1, permits: 1 }))
          )
          const answers = yield* backing.refreshAll!(requests)
          expect(answers.map((answer) => typeof answer === "object" ? answer._tag : answer)).toEqual([
            ...chosen.map(() => "Waiting"),
            ...chosen.map(() => false),
            ...chosen.map(() => "Acquired")
          ])
          expect(calls).toBe(20 + keys.length)
        }).pipe(Effect.provide(RedisBacking.layer(client)))
      }),
    60_000
  )

  it.live(
    "wakes waiters by sharded messages, not by polling, and again after the subscriber was disconnected",
    () =>
      Effect.gen(function*() {
        const { ports } = yield* cluster
        const client = yield* connect(ports)
        yield* Effect.gen(function*() {
          const mutex = yield* DistributedSemaphore.make("mutex", { ttl: "1 minute" })
          const handOffs = Effect.timed(Effect.all(
            Array.from({ length: 50 }, () => mutex.withPermits(1)(Effect.sleep("1 millis"))),
            { concurrency: "unbounded" }
          ))
          const drain = Effect.map(handOffs, ([duration]) => duration)
          // The first in line polls once a second: 50 hand-offs by polling would take most of a minute.
          yield* Effect.timeout(drain, "5 seconds")

          yield* disconnectSubscribers(client)
          yield* Effect.timeout(drain, "10 seconds")
        }).pipe(Effect.provide(RedisBacking.layer(client)))
      }),
    60_000
  )

  it.live(
    "subscribes each channel once after every disconnect, not once for each disconnect before",
    () =>
      Effect.gen(function*() {
        const { ports } = yield* cluster
        const client = yield* connect(ports)
        let subscriber: unknown
        const duplicate = client.duplicate.bind(client)
        client.duplicate = (...args) => subscriber = duplicate(...args)
        yield* Effect.gen(function*() {
          const mutex = yield* DistributedSemaphore.make("mutex", { ttl: "1 minute" })
          const handOff = Effect.all([
            mutex.withPermits(1)(Effect.sleep("5 millis")),
            mutex.withPermits(1)(Effect.void)
          ], {
            concurrency: 2
          })
          for (let time = 0; time < 5; time++) {
            yield* Effect.timeout(handOff, "10 seconds")
            yield* disconnectSubscribers(client)
          }
          const { shardedSubscribers } = subscriber as {
            readonly shardedSubscribers: { readonly channels: ReadonlyMap<number, ReadonlyArray<string>> }
          }
          const stood = () => Array.from(shardedSubscribers.channels.values()).flat()
          yield* until(Effect.map(Effect.timeout(handOff, "10 seconds"), () => stood().length > 0))
          expect(stood()).toEqual(Array.from(new Set(stood())))
        }).pipe(Effect.provide(RedisBacking.layer(client)))
      }),
    60_000
  )
})
