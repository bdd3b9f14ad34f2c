/** What is particular to etcd: its leases, its names, and tokens in transactions. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Schedule, Scope } from "effect"
import type { ITxnRequest } from "etcd3"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking, Lease } from "../../src/index.ts"
import { connect, enableAuthentication, findsNoLease, keys, leases, metrics, server } from "../utils/etcd.ts"
import * as Proxy from "../utils/proxy.ts"
import { until } from "../utils/until.ts"

let fresh = 0
const freshKey = () => `etcd-${process.pid}-${fresh++}`

const minute = Duration.minutes(1)

/** Builds the backing over a client of its own, as in another process. */
const build = (options: EtcdBacking.EtcdBackingOptions = {}, url = inject("etcdUrl")) =>
  Effect.gen(function*() {
    const client = yield* connect(url)
    const context = yield* Layer.build(EtcdBacking.layer(client, options))
    return { client, context, backing: Context.get(context, DistributedSemaphoreBacking) }
  })

describe("time", () => {
  it.live("a ttl of 500 ms is over for the holder after 500 ms, and for etcd after its floor of 2 s", () =>
    Effect.gen(function*() {
      const { freeze, thaw, url } = yield* server
      const { client, context } = yield* build({}, url)
      const semaphore = yield* Effect.provide(DistributedSemaphore.make("key", { ttl: "500 millis" }), context)
      // A first acquire also connects: that may take longer than an attempt.
      yield* until(Effect.map(Effect.exit(semaphore.withPermits(1)(Effect.void)), Exit.isSuccess))
      const held = yield* Deferred.make<void>()
      const work = Effect.andThen(Deferred.succeed(held, undefined), Effect.never)
      const holder = yield* Effect.forkScoped(Effect.flip(semaphore.withPermits(1)(work)))
      yield* Deferred.await(held)
      const ID = (yield* leases(client)).at(-1)
      const { grantedTTL } = yield* Effect.promise(() => client.leaseClient.leaseTimeToLive({ ID: ID! }))
      expect(grantedTTL).toBe("2")
      yield* Effect.promise(freeze)
      const [duration, error] = yield* Effect.timed(Fiber.join(holder))
      yield* Effect.promise(thaw)
      expect(error).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
      expect(Duration.toMillis(duration)).toBeLessThan(600)
    }))

  it.live("a hold with a ttl of more than a century works, and is released", () =>
    Effect.gen(function*() {
      const { context } = yield* build()
      const semaphore = yield* Effect.provide(DistributedSemaphore.make(freshKey(), { ttl: Number.MAX_VALUE }), context)
      yield* semaphore.withPermits(1)(Effect.map(semaphore.currentCount, (count) => expect(count).toBe(1)))
      expect(yield* semaphore.currentCount).toBe(0)
    }))
})

describe("an identifier that another process goes on with", () => {
  it.live("keeps its hold and its token, and does not depend on the first process any more", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(build({}, url), scope)
      const second = yield* build({}, url)
      const token = yield* first.backing.tryAcquire("key", "id", minute, 1, 1)
      expect(yield* second.backing.refresh("key", "id", minute, 1, 1)).toEqual(token)
      for (const lease of yield* leases(second.client)) {
        const { keys } = yield* Effect.promise(() =>
          second.client.leaseClient.leaseTimeToLive({ ID: lease, keys: true })
        )
        // It is the lease of the first process, which has nothing on it any more.
        if (keys.length === 0) yield* Effect.promise(() => second.client.leaseClient.leaseRevoke({ ID: lease }))
      }
      yield* Scope.close(scope, Exit.void)
      expect(yield* second.backing.tryAcquire("key", "id", minute, 1, 1)).toEqual(token)
      expect(yield* second.backing.release("key", "id", 1)).toBe(1)
      expect(yield* keys(second.client)).toEqual([])
    }))

  it.live("keeps its place in line, which is granted in its turn", () =>
    Effect.gen(function*() {
      const [first, second] = [yield* build(), yield* build()]
      const key = freshKey()
      yield* first.backing.tryAcquire(key, "holder", minute, 1, 1)
      for (const id of ["a", "b"]) yield* first.backing.tryAcquire(key, id, minute, 1, 1, { queue: true })
      expect(yield* second.backing.tryAcquire(key, "a", minute, 1, 1, { queue: true })).toMatchObject({ position: 0 })
      yield* second.backing.release(key, "holder", 1)
      expect(yield* first.backing.tryAcquire(key, "b", minute, 1, 1)).toBe(false)
      expect(yield* second.backing.tryAcquire(key, "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
    }))
})

describe("a token in a transaction", () => {
  it.live("lets a write through while the hold lasts, and not after", () =>
    Effect.gen(function*() {
      const { client, context } = yield* build()
      const key = freshKey()
      const mutex = yield* Effect.provide(DistributedSemaphore.make(key), context)
      const write = (identifier: string, token: bigint, value: string) =>
        Effect.promise(() =>
          client.if(EtcdBacking.holdName(key, identifier), "Create", "==", String(token))
            .then(client.put(`result/${key}`).value(value))
            .commit()
        )
      const stale = yield* mutex.withPermits(1)(Effect.gen(function*() {
        const { fencingToken, identifier } = yield* Lease
        const token = Option.getOrThrow(fencingToken)
        expect((yield* write(identifier, token, "first")).succeeded).toBe(true)
        return { identifier, token }
      }))
      expect((yield* write(stale.identifier, stale.token, "late")).succeeded).toBe(false)
      yield* mutex.withPermits(1, { identifier: stale.identifier })(
        Effect.gen(function*() {
          expect((yield* write(stale.identifier, stale.token, "late")).succeeded).toBe(false)
        })
      )
      expect(yield* Effect.promise(() => client.get(`result/${key}`).string())).toBe("first")
    }))
})

describe("a request that the client repeats", () => {
  it.live("and that takes effect again after the release finds its lease gone", () =>
    Effect.gen(function*() {
      const etcd = yield* server
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => Proxy.make(etcd)),
        (proxy) => Effect.promise(() => proxy.close())
      )
      const observer = yield* connect(etcd.url)
      const { backing, client } = yield* build({}, `http://127.0.0.1:${proxy.port}`)
      // A lease that is kept, as after any release.
      yield* backing.tryAcquire("key", "first", minute, 1, 1)
      yield* backing.release("key", "first", 1)
      const [kept] = yield* leases(observer)

      const requests: Array<ITxnRequest> = []
      const txn = client.kv.txn.bind(client.kv)
      client.kv.txn = (request, options) => {
        requests.push(request)
        return txn(request, options)
      }
      const lost = proxy.loseReplyTo(/1 60 1/)
      expect(yield* backing.tryAcquire("key", "second", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      yield* Effect.promise(() => lost)
      const acquire = requests.find(({ success }) => success?.some(({ request_put }) => request_put?.lease === kept))!
      expect(yield* backing.release("key", "second", 1)).toBe(1)

      expect(yield* leases(observer)).not.toContain(kept)
      yield* findsNoLease(observer, acquire)
      expect(yield* keys(observer)).toEqual([])
    }))
})

describe("options", () => {
  it.live("keyPrefix: semaphores under different prefixes are independent, and holdName names the keys of each", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const [plain, other] = [yield* build({}, url), yield* build({ keyPrefix: "app/locks/" }, url)]
      yield* plain.backing.tryAcquire("key", "a/b", minute, 1, 1)
      yield* other.backing.tryAcquire("key", "a/b", minute, 1, 1)
      expect(yield* keys(plain.client)).toEqual([
        EtcdBacking.holdName("key", "a/b", { keyPrefix: "app/locks/" }),
        EtcdBacking.holdName("key", "a/b")
      ])
    }))

  it.live("pushBasedAcquireEnabled: false watches nothing, and waiters poll", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { backing, context } = yield* build({ pushBasedAcquireEnabled: false }, url)
      expect(backing.onPermitsReleased).toBeUndefined()
      const mutex = yield* Effect.provide(
        DistributedSemaphore.make("key", { acquireRetryInterval: "20 millis" }),
        context
      )
      const done = yield* Deferred.make<void>()
      const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Deferred.await(done)), { startImmediately: true })
      yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
      const waiters = yield* Effect.forEach([1, 2], () => Effect.forkScoped(mutex.withPermits(1)(Effect.void)))
      yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 2))
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.joinAll([holder, ...waiters])
      expect((yield* metrics(url)).etcd_debugging_store_watch_requests_total).toBe(0)
    }))
})

describe("a server with authentication", () => {
  it.live("can be used by a role that may read and write below the prefix, and nothing else", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      yield* enableAuthentication(yield* connect(url))
      const client = yield* connect(url, { auth: { username: "app", password: "secret" } })
      yield* Effect.gen(function*() {
        // The ttl is so long that a busy machine loses no lease.
        const mutex = yield* DistributedSemaphore.make("key", { ttl: "6 seconds", refreshInterval: "1 second" })
        const done = yield* Deferred.make<void>()
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Deferred.await(done)), { startImmediately: true })
        yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
        const waiters = yield* Effect.forEach([1, 2, 3], () => Effect.forkScoped(mutex.withPermits(1)(Effect.void)))
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 3))
        // The watch, renewals and refreshes are allowed, too.
        yield* Effect.sleep("2 seconds")
        yield* Deferred.succeed(done, undefined)
        yield* Effect.timeout(Fiber.joinAll([holder, ...waiters]), "5 seconds")
      }).pipe(Effect.provide(EtcdBacking.layer(client)))
      const other = yield* Effect.provide(
        DistributedSemaphore.make("key", { backingFailureRetryPolicy: Schedule.recurs(0) }),
        EtcdBacking.layer(client, { keyPrefix: "x/" })
      )
      const refused = yield* Effect.flip(other.currentCount)
      expect(refused).toMatchObject({ _tag: "SemaphoreBackingError", operation: "getCount" })
      expect(refused.message).toContain("permission denied")
    }))
})

describe("misuse", () => {
  it.live("sends nothing", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const { context } = yield* build({}, url)
      yield* Effect.gen(function*() {
        yield* Effect.exit(DistributedSemaphore.make(""))
        yield* Effect.exit(DistributedSemaphore.make("key", { limit: 0 }))
        const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
        yield* Effect.exit(semaphore.withPermits(3)(Effect.void))
        yield* Effect.exit(semaphore.tryTake(0))
      }).pipe(Effect.provide(context))
      const sent = Object.entries(yield* metrics(url)).filter(([name, value]) =>
        name.startsWith("grpc_server_started_total") && value > 0
      )
      expect(sent).toEqual([])
    }))
})

describe("a lease that etcd refuses to grant", () => {
  it.live("is not revoked, and keeps nobody from acquiring later", () =>
    Effect.gen(function*() {
      const { backing, client } = yield* build()
      const key = freshKey()
      const { leaseGrant } = client.leaseClient
      client.leaseClient.leaseGrant = () => Promise.reject(new Error("etcdserver: mvcc: database space exceeded"))
      for (let i = 0; i < 20; i++) yield* Effect.flip(backing.tryAcquire(key, "a", minute, 1, 1))
      const revoked: Array<unknown> = []
      client.leaseClient.leaseRevoke = async (request) => revoked.push(request) as never
      expect(yield* backing.release(key, "a", 1)).toBe(0)
      expect(revoked).toEqual([])
      client.leaseClient.leaseGrant = leaseGrant
      expect(yield* backing.tryAcquire(key, "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
    }))
})

describe("when the layer closes", () => {
  it.live("the leases that were kept for reuse are revoked", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const observer = yield* connect(url)
      const scope = yield* Scope.make()
      const { context } = yield* Scope.provide(build({}, url), scope)
      // Holds with different ttls share no lease.
      for (let seconds = 60; seconds < 100; seconds++) {
        const mutex = yield* Effect.provide(
          DistributedSemaphore.make("key", { ttl: Duration.seconds(seconds) }),
          context
        )
        yield* mutex.withPermits(1)(Effect.void)
      }
      yield* until(Effect.map(leases(observer), (all) => all.length <= 16))
      expect(yield* leases(observer)).toHaveLength(16)
      yield* Scope.close(scope, Exit.void)
      // They are revoked long before their minute is over.
      yield* until(Effect.map(leases(observer), (all) => all.length === 0))
      expect(yield* keys(observer)).toEqual([])
    }))

  it.live("and a release comes later, its lease is revoked, too", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const client = yield* connect(url)
      const scope = yield* Scope.make()
      const backing = Context.get(
        yield* Layer.buildWithScope(EtcdBacking.layer(client), scope),
        DistributedSemaphoreBacking
      )
      yield* backing.tryAcquire("key", "a", minute, 1, 1)
      yield* Scope.close(scope, Exit.void)
      expect(yield* leases(client)).toHaveLength(1)
      expect(yield* backing.release("key", "a", 1)).toBe(1)
      yield* until(Effect.map(leases(client), ({ length }) => length === 0))
    }))

  it.live("a process has nothing left to do, and ends", () =>
    Effect.gen(function*() {
      const program = fileURLToPath(new URL("../utils/etcdProcess.ts", import.meta.url))
      const { stdout } = yield* Effect.callback<{ readonly stdout: string }, Error>((resume) => {
        execFile(
          process.execPath,
          ["--disable-warning=ExperimentalWarning", program],
          { env: { ...process.env, ETCD_URL: inject("etcdUrl") }, timeout: 20_000 },
          (error, stdout, stderr) =>
            resume(error ? Effect.fail(new Error(`${error.message}\n${stderr}`)) : Effect.succeed({ stdout }))
        )
      })
      const [closed, ended] = stdout.trim().split("\n").map(Number)
      expect(ended! - closed!).toBeLessThan(500)
    }))
})
