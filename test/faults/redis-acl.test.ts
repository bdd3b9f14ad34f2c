/** The ACL of a Redis user lacks what the backing needs: no permit is lost, and the store's sums stay right. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Option, Schedule, Stream } from "effect"
import { Cluster } from "ioredis"
import type { Redis } from "ioredis"
import { readFileSync } from "node:fs"
import { DistributedSemaphore, DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import * as RedisCluster from "../servers/redisCluster.ts"
import { channels, connect, server } from "../utils/redis.ts"
import { buildTwice, inBoth } from "../utils/twoProcesses.ts"
import { until } from "../utils/until.ts"

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8")

/** The rules of the users that the README describes, for a server and for a Cluster. */
const [documented, documentedForCluster] = Array.from(
  readme.matchAll(/^ACL SETUSER app (.*)$/gm),
  ([, rules]) => rules!.split(" ")
) as [Array<string>, Array<string>]

const change = (admin: Redis, ...rules: ReadonlyArray<string>) =>
  Effect.promise(() => admin.call("ACL", "SETUSER", "app", ...rules))

/** Returns the commands and the channels that were refused since the last call. */
const refusals = (admin: Redis) =>
  Effect.promise(async () => {
    const entries = await admin.call("ACL", "LOG", "128") as ReadonlyArray<ReadonlyArray<unknown>>
    await admin.call("ACL", "LOG", "RESET")
    return entries.map((entry) => entry[entry.indexOf("object") + 1])
  })

const limited = Effect.gen(function*() {
  const { url } = yield* server
  const admin = yield* connect(url)
  yield* change(admin, ...documented)
  return { admin, url, urlOfUser: url.replace("//", "//app:secret@") }
})

/** Builds the backing over a client of its own, as in another process. */
const build = (url: string) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(RedisBacking.layer(yield* connect(url)))
    return { context, backing: Context.get(context, DistributedSemaphoreBacking) }
  })

/** Contends for permits from several processes. */
const contend = (semaphores: ReadonlyArray<DistributedSemaphore.DistributedSemaphore>, times: number) =>
  Effect.forEach(
    Array.from({ length: times }, (_, index) => semaphores[index % semaphores.length]!),
    (semaphore) => semaphore.withPermits(1)(Effect.sleep("2 millis")),
    { concurrency: "unbounded", discard: true }
  )

describe("the user that the README describes", () => {
  it.live("is refused nothing, and is notified", () =>
    Effect.gen(function*() {
      const { admin, urlOfUser } = yield* limited
      yield* Effect.gen(function*() {
        const here = yield* build(urlOfUser)
        const there = yield* build(urlOfUser)
        const semaphores = yield* inBoth([here.context, there.context], "key", { ttl: "1 minute" })
        const [semaphore] = semaphores
        // By looks alone, each hand-off would take longer than a second.
        yield* Effect.timeout(contend(semaphores, 20), "5 seconds")
        yield* Effect.exit(semaphore.withPermits(1)(semaphore.tryTake(1)))
        expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
      }).pipe(Effect.scoped)
      expect(yield* refusals(admin)).toEqual([])
    }))

  it.live("is refused no operation of operators, if it may also SCAN", () =>
    Effect.gen(function*() {
      const { admin, urlOfUser } = yield* limited
      yield* change(admin, "+scan")
      yield* Effect.gen(function*() {
        const { backing } = yield* build(urlOfUser)
        const ttl = Duration.minutes(1)
        let changes = 0
        const revoked = yield* Effect.forkScoped(Stream.runHead(backing.onRevoked!))
        yield* Effect.forkScoped(Stream.runForEach(backing.onChanged!("key"), () => Effect.sync(() => changes++)))
        yield* until(Effect.map(channels(admin), ({ length }) => length === 2))
        changes = 0
        yield* backing.tryAcquire("key", "a", ttl, 1, 1)
        // The key is watched within a second.
        yield* until(Effect.map(backing.refresh("key", "a", ttl, 1, 1), () => changes > 0))
        expect(yield* Stream.runCollect(backing.keys!)).toEqual(["key"])
        expect((yield* backing.inspect!("key")).holderCount).toBe(1)
        expect(yield* backing.release("key", "a", 1, { revoke: true })).toBe(1)
        expect(yield* Fiber.join(revoked)).toEqual(Option.some({ key: "key", holderId: "a" }))
      }).pipe(Effect.scoped)
      expect(yield* refusals(admin)).toEqual([])
    }))

  it.live("is refused nothing by a Cluster, and is notified", () =>
    Effect.gen(function*() {
      const { ports } = yield* Effect.acquireRelease(
        Effect.promise(RedisCluster.start),
        (cluster) => Effect.promise(() => cluster.stop())
      )
      const admins = yield* Effect.forEach(ports, (port) => connect(`redis://127.0.0.1:${port}`))
      yield* Effect.forEach(admins, (admin) => change(admin, ...documentedForCluster))
      const client = yield* Effect.acquireRelease(
        Effect.sync(() =>
          new Cluster(ports.map((port) => ({ host: "127.0.0.1", port })), {
            redisOptions: { username: "app", password: "secret" }
          })
        ),
        (client) => Effect.sync(() => client.disconnect())
      )
      yield* Effect.gen(function*() {
        const semaphores = yield* inBoth(yield* buildTwice(RedisBacking.layer(client)), "key", { ttl: "1 minute" })
        yield* Effect.timeout(contend(semaphores, 20), "5 seconds")
      }).pipe(Effect.scoped)
      for (const admin of admins) expect(yield* refusals(admin)).toEqual([])
    }))
})

describe("a user that may not publish", () => {
  const cases = (["-publish", "resetchannels"] as const).flatMap((rule) =>
    ["the same process", "another process"].map((where) => [rule, where] as const)
  )
  it.live.each(cases)(
    "because of %s releases once, and a waiter in %s acquires within about a second",
    ([rule, where]) =>
      Effect.gen(function*() {
        const { admin, url, urlOfUser } = yield* limited
        const holder = yield* build(urlOfUser)
        // A waiter in another process is another user, which receives everything that is published.
        const waiter = where === "the same process" ? holder : yield* build(url)
        const ttl = Duration.minutes(1)
        const semaphore = yield* Effect.provide(DistributedSemaphore.make("key", { ttl }), waiter.context)
        // The subscription stands before the permission is taken away.
        yield* holder.backing.tryAcquire("key", "first", ttl, 1, 1)
        const early = yield* Effect.forkScoped(semaphore.withPermits(1)(Effect.void))
        yield* until(Effect.map(channels(admin), (subscribed) => subscribed.length === 1))
        yield* holder.backing.release("key", "first", 1)
        yield* Fiber.join(early)

        yield* change(admin, rule)
        yield* holder.backing.tryAcquire("key", "holder", ttl, 1, 1)
        const entered = yield* Deferred.make<void>()
        const leave = yield* Deferred.make<void>()
        const waiting = yield* Effect.forkScoped(
          semaphore.withPermits(1)(Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(leave)))
        )
        yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))

        expect(yield* holder.backing.release("key", "holder", 1)).toBe(1)
        yield* Effect.timeout(Deferred.await(entered), "1500 millis")
        expect(yield* holder.backing.release("key", "holder", 1)).toBe(0)
        expect(yield* holder.backing.getCount("key", ttl)).toBe(1)
        yield* Deferred.succeed(leave, undefined)
        yield* Fiber.join(waiting)
        expect(yield* semaphore.currentCount).toBe(0)
        expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
      })
  )
})

describe("a user that may not use one of the commands", () => {
  const outsideOfScripts = ["+eval", "+evalsha", "+subscribe", "+unsubscribe", "+info"]
  const commands = documented
    .filter((rule) => rule.startsWith("+") && !outsideOfScripts.includes(rule))
    .map((rule) => rule.slice(1))

  it.live.each(commands)(
    "(%s) may fail, but loses no permit for longer than a ttl, and gives none out twice",
    (command) =>
      Effect.gen(function*() {
        const { admin, url, urlOfUser } = yield* limited
        const [limit, ttl] = [3, Duration.millis(400)]
        const [limitedUser, healthy] = [yield* build(urlOfUser), yield* build(url)]

        /** `out` counts the permits that workers hold, as far as they know. */
        let [out, most, cycles, failures] = [0, 0, 0, 0]
        let stop = false
        const work = (permits: number) =>
          Effect.acquireUseRelease(
            Effect.sync(() => void (most = Math.max(most, out += permits))),
            () => Effect.sleep("3 millis"),
            () => Effect.sync(() => void (out -= permits))
          )
        const worker = ({ context }: typeof healthy, permits: number) =>
          Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make("key", {
              limit,
              ttl,
              refreshInterval: "5 millis",
              acquireRetryInterval: "5 millis",
              backingFailureRetryPolicy: Schedule.recurs(0)
            })
            yield* semaphore.withPermits(permits)(work(permits)).pipe(
              Effect.matchCauseEffect({
                onFailure: () => Effect.andThen(Effect.sync(() => failures++), Effect.sleep("1 millis")),
                onSuccess: () => Effect.sync(() => cycles++)
              }),
              Effect.repeat({ while: () => !stop })
            )
          }).pipe(Effect.provide(context))
        /** Makes holders and waiters that crash: their holds and places expire while others operate. */
        const crash = (backing: DistributedSemaphoreBacking, permits: number) =>
          Effect.gen(function*() {
            const briefly = Duration.millis(5)
            yield* Effect.exit(
              backing.tryAcquire("key", crypto.randomUUID(), briefly, limit, permits, { queue: true })
            )
            yield* Effect.sleep("6 millis")
          }).pipe(Effect.repeat({ while: () => !stop }))

        const running = yield* Effect.forkScoped(Effect.all([
          ...[1, 2, 1].map((permits) => worker(limitedUser, permits)),
          ...[1, 2, 3].map((permits) => worker(healthy, permits)),
          ...[limitedUser, healthy].flatMap(({ backing }) => [crash(backing, 1), crash(backing, 2)])
        ], { concurrency: "unbounded" }))
        yield* until(Effect.sync(() => cycles > 30))
        yield* change(admin, `-${command}`)
        const failuresBefore = failures
        yield* Effect.sleep("1 second")
        yield* change(admin, `+${command}`)
        expect(yield* refusals(admin)).toContain(command)
        if (command !== "publish") expect(failures).toBeGreaterThan(failuresBefore)

        // No permit is lost for longer than a ttl, although the key is never idle.
        yield* Effect.sleep(ttl)
        const before = cycles
        yield* until(Effect.sync(() => cycles > before + 30), "5 seconds")
        stop = true
        yield* Effect.timeout(Fiber.join(running), "5 seconds")
        expect(most).toBeLessThanOrEqual(limit)

        const { backing } = healthy
        // Holds and places that are left over expire by themselves.
        yield* Effect.sleep(ttl)
        const { holders } = yield* backing.inspect!("key")
        expect(yield* backing.getCount("key", ttl)).toBe(holders.reduce((sum, { permits }) => sum + permits, 0))
        expect(yield* backing.tryAcquire("key", "all", ttl, limit, limit)).toMatchObject({ _tag: "Acquired" })
        expect(yield* backing.tryAcquire("key", "one more", ttl, limit, 1)).toBe(false)
        expect(yield* backing.getCount("key", ttl)).toBe(limit)
        expect(yield* backing.release("key", "all", limit)).toBe(limit)
        expect(yield* backing.getCount("key", ttl)).toBe(0)
      })
  )
})
