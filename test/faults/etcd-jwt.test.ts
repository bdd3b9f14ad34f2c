/**
 * etcd with JSON Web Tokens: a change of users or roles invalidates all earlier tokens. The client does not understand
 * the message that says so, and would use its token for ever.
 */
import { describe, expect, it } from "@effect/vitest"
import { noop } from "cockatiel"
import { Deferred, Duration, Effect, Fiber, Schedule } from "effect"
import type { Etcd3 } from "etcd3"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, enableAuthentication, metrics, serverWithJwt } from "../utils/etcd.ts"
import { until } from "../utils/until.ts"

const build = Effect.gen(function*() {
  const { url } = yield* serverWithJwt
  yield* enableAuthentication(yield* connect(url))
  let users = 0
  return {
    client: yield* connect(url, {
      auth: { username: "app", password: "secret" },
      faultHandling: { host: () => noop }
    }),
    url,
    /** Adds a user that is not the client's. */
    change: Effect.scoped(Effect.gen(function*() {
      const root = yield* connect(url, { auth: { username: "root", password: "root" } })
      yield* Effect.promise(() => root.user(`other-${users++}`).create("secret"))
    }))
  }
})

const authentications = (url: string) =>
  Effect.map(
    metrics(url),
    (all) =>
      Object.entries(all).find(([name]) =>
        name.startsWith("grpc_server_started_total") && name.includes("\"Authenticate\"")
      )![1]
  )

/** Shows that a call of the client itself is refused. If it is not, the backing need not renew tokens any more. */
const isRefused = (client: Etcd3) =>
  Effect.map(
    Effect.flip(Effect.tryPromise(() => client.get("semaphore/").exec())),
    ({ cause }) => expect(String(cause)).toContain("revision of auth store is old")
  )

/** The semaphore repeats no operation that fails. */
const config = { backingFailureRetryPolicy: Schedule.recurs(0) }

describe("after a change of users", () => {
  it.live("a holder and its waiters go on with the same client, and are notified", () =>
    Effect.gen(function*() {
      const { change, client } = yield* build
      yield* Effect.gen(function*() {
        // An attempt may last a quarter of it: on a busy machine, a shorter one might not do.
        const ttl = Duration.seconds(12)
        const mutex = yield* DistributedSemaphore.make("key", { ttl, ...config })
        const done = yield* Deferred.make<void>()
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Deferred.await(done)))
        yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
        const waiters = yield* Effect.forEach([1, 2], () => Effect.forkScoped(mutex.withPermits(1)(Effect.void)))
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 2))
        yield* change
        yield* isRefused(client)
        yield* Effect.sleep(Duration.times(ttl, 1.2))
        expect(holder.pollUnsafe()).toBeUndefined()
        yield* change
        yield* Deferred.succeed(done, undefined)
        yield* Effect.timeout(Fiber.joinAll([holder, ...waiters]), "1 second")
        yield* change
        expect(yield* mutex.inspect).toMatchObject({ holders: [], line: [] })
        // The client itself uses the new token, too.
        yield* Effect.promise(() => client.get("semaphore/").exec())
      }).pipe(Effect.provide(EtcdBacking.layer(client)))
    }))

  it.live("a new watch stands", () =>
    Effect.gen(function*() {
      const { change, client, url } = yield* build
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make("key", { ttl: "1 minute", ...config })
        const done = yield* Deferred.make<void>()
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Deferred.await(done)))
        yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
        yield* change
        const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.void))
        // One is for the key, the other for revocations.
        yield* until(Effect.map(metrics(url), (all) => all.etcd_debugging_mvcc_watcher_total === 2))
        yield* Deferred.succeed(done, undefined)
        yield* Effect.timeout(Fiber.joinAll([holder, waiter]), "500 millis")
      }).pipe(Effect.provide(EtcdBacking.layer(client)))
    }))

  it.live("hand-offs go on, also after four more changes", () =>
    Effect.gen(function*() {
      const { change, client } = yield* build
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "5 seconds" })
        const seen = { out: 0, most: 0, done: 0 }
        let stop = false
        const work = Effect.acquireUseRelease(
          Effect.sync(() => void (seen.most = Math.max(seen.most, ++seen.out))),
          () => Effect.sleep("5 millis"),
          () => Effect.sync(() => void seen.out--)
        )
        const worker = semaphore.withPermits(1)(work).pipe(
          Effect.tap(() => Effect.sync(() => seen.done++)),
          Effect.repeat({ while: () => !stop })
        )
        const workers = yield* Effect.forEach(Array.from({ length: 6 }), () => Effect.forkScoped(worker))
        for (let round = 0; round < 5; round++) {
          const before = seen.done
          yield* until(Effect.sync(() => seen.done > before + 20), "20 seconds")
          yield* change
        }
        const before = seen.done
        yield* until(Effect.sync(() => seen.done > before + 20), "20 seconds")
        stop = true
        yield* Effect.timeout(Fiber.joinAll(workers), "10 seconds")
        expect(seen.most).toBe(2)
      }).pipe(Effect.provide(EtcdBacking.layer(client)))
    }))

  it.live("many operations at once succeed, after one authentication", () =>
    Effect.gen(function*() {
      const { change, client, url } = yield* build
      yield* Effect.gen(function*() {
        const each = yield* Effect.forEach(
          Array.from({ length: 30 }),
          // Operations on long keys share no call: etcd 3.4 does not check the permissions of shared calls.
          (_, index) => DistributedSemaphore.make(`key-${index}-${"x".repeat(1000)}`, config)
        )
        yield* each[0]!.withPermits(1)(Effect.void)
        yield* change
        const before = yield* authentications(url)
        yield* Effect.forEach(each, (mutex) => mutex.withPermits(1)(Effect.void), { concurrency: "unbounded" })
        expect((yield* authentications(url)) - before).toBe(1)
      }).pipe(Effect.provide(EtcdBacking.layer(client)))
    }))
})
