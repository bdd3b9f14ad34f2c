import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Option } from "effect"
import { Cluster } from "ioredis"
import * as Scripts from "../../src/backings/redis/scripts.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease, RedisBacking } from "../../src/index.ts"
import * as RedisCluster from "../servers/redisCluster.ts"
import { buildTwice, inBoth } from "../utils/twoProcesses.ts"
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
        const processes = yield* buildTwice(RedisBacking.layer(client, options))
        yield* Effect.forEach(keys, (key) =>
          Effect.gen(function*() {
            const semaphores = yield* inBoth(processes, key, { limit: 2, acquireRetryInterval })
            const tokens: Array<bigint> = []
            let out = 0
            let most = 0
            const work = Effect.gen(function*() {
              most = Math.max(most, ++out)
              tokens.push(Option.getOrThrow((yield* Lease).fencingToken))
              yield* Effect.sleep("3 millis")
              out--
            })
            yield* Effect.all(
              Array.from({ length: 6 }).flatMap(() => semaphores.map((semaphore) => semaphore.withPermits(1)(work))),
              { concurrency: "unbounded" }
            )
            expect(most).toBe(2)
            expect(tokens).toHaveLength(12)
            expect(new Set(tokens).size).toBe(12)
            expect(yield* semaphores[0].inspect).toMatchObject({ holders: [], line: [] })
          }), { concurrency: 4 }).pipe(Effect.timeout("20 seconds"))
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
        const mutexes = yield* inBoth(yield* buildTwice(RedisBacking.layer(client)), "mutex", { ttl: "1 minute" })
        const drain = Effect.all(
          Array.from({ length: 25 }).flatMap(() =>
            mutexes.map((mutex) => mutex.withPermits(1)(Effect.sleep("1 millis")))
          ),
          { concurrency: "unbounded" }
        )
        // The first in line polls once a second: 50 hand-offs by polling would take most of a minute.
        yield* Effect.timeout(drain, "5 seconds")

        yield* disconnectSubscribers(client)
        yield* Effect.timeout(drain, "10 seconds")
      }),
    60_000
  )

  it.live(
    "makes waiters look when the client repeats requests: what these granted was in replies that were lost",
    () =>
      Effect.gen(function*() {
        const { ports } = yield* cluster
        const client = yield* connect(ports)
        const admin = yield* connect(ports)
        yield* Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
          const backing = yield* DistributedSemaphoreBacking
          yield* backing.tryAcquire("key", "holder", Duration.minutes(1), 2, 2)
          const done = yield* Deferred.make<void>()
          let inside = 0
          const work = Effect.andThen(Effect.sync(() => inside++), Deferred.await(done))
          const waiters = yield* Effect.forEach([1, 2], () => Effect.forkScoped(semaphore.withPermits(1)(work)))
          yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 2))
          // By now they have looked since the subscription stood.
          yield* Effect.sleep("500 millis")
          // A release by the process of the waiters, of whose reply it hears nothing.
          const entries = yield* Effect.promise(() => admin.zrange("semaphore:{key}", "-1", "-1"))
          const { args, keys, script } = Scripts.release.call({
            publish: "SPUBLISH",
            process: entries[0]!.split(":").slice(3).join(":"),
            key: "semaphore:{key}",
            identifier: "holder",
            permits: 2,
            token: ""
          })
          const [, freed, granted] = (yield* Effect.promise(() =>
            admin.eval(script.lua, keys.length, ...keys, ...args)
          )) as ReadonlyArray<string>
          expect([freed, granted!.split(" ").length]).toEqual(["2", 2])
          // Only the connections of requests are cut, not those of messages.
          yield* Effect.forEach(client.nodes("master"), (node) =>
            Effect.promise(async () => {
              const id = await node.client("ID")
              const other = admin.nodes("master").find(({ options: { port } }) =>
                port === node.options.port
              )!
              expect(await other.call("CLIENT", "KILL", "ID", id)).toBe(1)
            }))
          // The second in line would look after a third of its ttl.
          yield* until(
            Effect.sync(() => inside === 2),
            "5 seconds"
          )
          yield* Deferred.succeed(done, undefined)
          yield* Fiber.joinAll(waiters)
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
