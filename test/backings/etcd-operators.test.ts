/** etcd: what operators see, and what a revocation leaves. */
import { describe, expect, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Duration, Effect, Layer, Stream } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { connect, enableAuthentication, keys, leases, server } from "../utils/etcd.ts"
import { minute } from "../utils/etcdRaces.ts"
import { until } from "../utils/until.ts"

const build = (url: string, options: EtcdBacking.EtcdBackingOptions = {}, client = connect(url)) =>
  Effect.gen(function*() {
    const etcd = yield* client
    const backing = Context.get(
      yield* Layer.build(EtcdBacking.layer(etcd, options)),
      DistributedSemaphoreBacking
    )
    return { client: etcd, backing }
  })

it.live("layerConfig reads the options from the configuration", () =>
  Effect.gen(function*() {
    const etcd = yield* Effect.flatMap(server, ({ url }) => connect(url))
    const layer = EtcdBacking.layerConfig(etcd, {
      keyPrefix: Config.String("PREFIX"),
      pushBasedAcquireEnabled: Config.Boolean("PUSH"),
      owner: Config.String("OWNER")
    })
    const provider = ConfigProvider.fromUnknown({ PREFIX: "jobs/", PUSH: "false", OWNER: "worker 7" })
    const backing = Context.get(
      yield* Layer.build(Layer.provide(layer, ConfigProvider.layer(provider))),
      DistributedSemaphoreBacking
    )
    yield* backing.tryAcquire("key", "a", minute, 1, 1)
    expect((yield* keys(etcd)).filter((key) => !key.startsWith("jobs/"))).toEqual([])
    expect((yield* backing.inspect!("key")).holders).toMatchObject([{ owner: "worker 7" }])
    expect([backing.onPermitsReleased, backing.onRevoked, backing.onChanged]).toEqual([undefined, undefined, undefined])
  }))

describe("a revocation", () => {
  it.live("is heard by a role that may read and write below the prefix, and leaves nothing", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const auth = (username: string, password: string) => connect(url, { auth: { username, password } })
      yield* Effect.flatMap(connect(url), enableAuthentication)
      const admin = yield* auth("root", "root")
      const { backing } = yield* build(url, {}, auth("app", "secret"))
      const heard: Array<unknown> = []
      yield* Effect.forkScoped(
        Stream.runForEach(backing.onRevoked!, (revocation) => Effect.sync(() => heard.push(revocation))),
        { startImmediately: true }
      )
      const revoked = { key: "a/b \"c\"", holderId: "d/e\n" }
      yield* backing.tryAcquire(revoked.key, revoked.holderId, minute, 1, 1)
      const [lease] = yield* leases(admin)
      yield* until(
        Effect.map(backing.release(revoked.key, revoked.holderId, 1, { revoke: true }), () => heard.length > 0)
      )
      expect(heard[0]).toEqual(revoked)
      expect(yield* keys(admin)).toEqual([])
      expect(yield* leases(admin)).toEqual([lease])
    }))
})

describe("inspect", () => {
  it.live("names the process that asked last", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const [{ backing: one }, { backing: other }] = [
        yield* build(url, { owner: "one: 1\n🔑" }),
        yield* build(url, { owner: "other" })
      ]
      const owners = Effect.map(one.inspect!("key"), ({ holders }) => holders.map(({ owner }) => owner))
      yield* one.tryAcquire("key", "a", minute, 3, 2)
      expect(yield* owners).toEqual(["one: 1\n🔑"])
      yield* other.release("key", "a", 1)
      expect(yield* owners).toEqual(["one: 1\n🔑"])
      yield* other.tryAcquire("key", "a", minute, 3, 1)
      expect(yield* owners).toEqual(["other"])
      yield* one.tryAcquire("key", "a", minute, 2, 1)
      expect(yield* owners).toEqual(["one: 1\n🔑"])
    }))

  it.live("asks for the time that a hundred leases have left, however many there are", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { backing, client } = yield* build(url)
      const name = (number: number) => `semaphore/key/${String(number).padStart(3, "0")}/a`
      for (let number = 0; number < 120; number++) {
        const lease = client.lease(60)
        yield* Effect.promise(async () => lease.put(name(number)).value("1 70 200 0 somebody"))
      }
      const { leaseTimeToLive } = client.leaseClient
      let asked = 0
      client.leaseClient.leaseTimeToLive = (request, options) => {
        asked++
        return leaseTimeToLive.call(client.leaseClient, request, options)
      }
      const { holders } = yield* backing.inspect!("key")
      expect(asked).toBe(100)
      expect(holders.filter(({ remaining }) => Duration.toSeconds(remaining) <= 60)).toHaveLength(100)
      expect(holders).toHaveLength(120)
    }))

  it.live("shows no time left that is older than the line beside it", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { backing, client } = yield* build(url)
      const ask = backing.tryAcquire("key", "holder", minute, 1, 1)
      yield* ask
      const left = Effect.map(backing.inspect!("key"), ({ holders }) => Duration.toSeconds(holders[0]!.remaining))
      yield* until(Effect.map(left, (seconds) => seconds < 57))
      const { leaseTimeToLive } = client.leaseClient
      const answers: Array<number> = []
      client.leaseClient.leaseTimeToLive = async (request, options) => {
        const answer = await leaseTimeToLive.call(client.leaseClient, request, options)
        if (answers.push(Number(answer.TTL)) === 1) {
          await Effect.runPromise(
            Effect.andThen(ask, backing.tryAcquire("key", "waiter", minute, 1, 1, { queue: true }))
          )
        }
        return answer
      }
      const { holders, line } = yield* backing.inspect!("key")
      expect(line).toHaveLength(1)
      expect(Duration.toSeconds(holders[0]!.remaining)).toBeGreaterThan(answers[0]!)
    }))

  it.live("shows the last ttl of a hold that has changed its lease each time that its lease is asked", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { backing, client } = yield* build(url)
      yield* backing.tryAcquire("key", "a", Duration.seconds(4), 1, 1)
      const { leaseTimeToLive } = client.leaseClient
      let asked = 0
      client.leaseClient.leaseTimeToLive = async (request, options) => {
        await Effect.runPromise(backing.refresh("key", "a", Duration.seconds(60 + ++asked), 1, 1))
        return leaseTimeToLive.call(client.leaseClient, request, options)
      }
      const { holders } = yield* backing.inspect!("key")
      expect(asked).toBe(3)
      expect(holders.map(({ remaining }) => Duration.toSeconds(remaining))).toEqual([63])
    }))
})

describe("keys", () => {
  it.live("lists the keys of contenders, page by page, whatever else is below the prefix", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const [{ backing, client }, { backing: others }] = [yield* build(url), yield* build(url, { keyPrefix: "" })]
      const names = ["key", "key/", "key/a/b", "key!", "key0", "/key/a", "\\u006bey/a/a", "k/a/c", "z"]
      for (const name of names) yield* Effect.promise(() => client.put(`semaphore/${name}`).value("by hand"))
      // More than two pages.
      yield* Effect.forEach(
        Array.from({ length: 600 }, (_, index) => `${index}`),
        (id) => backing.tryAcquire("many", id, minute, 1000, 1, { queue: true }),
        { concurrency: 50 }
      )
      const used = ["a", "key", "key!", "key/a/b", "many", "semaphore", "🔑"]
      yield* Effect.forEach(used, (key) => backing.tryAcquire(key, "last", minute, 1000, 1, { queue: true }))
      expect((yield* Stream.runCollect(backing.keys!)).toSorted()).toEqual(used.toSorted())
      yield* others.tryAcquire("other", "a", minute, 1, 1)
      expect(yield* Stream.runCollect(others.keys!)).toEqual(["other"])
      expect((yield* Stream.runCollect(backing.keys!)).toSorted()).toEqual(used.toSorted())
    }))
})
