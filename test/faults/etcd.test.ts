/** etcd: the server freezes or restarts, its history is compacted, leases are revoked. */
import { describe, expect, it } from "@effect/vitest"
import { noop } from "cockatiel"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Schedule, Scope } from "effect"
import type { Etcd3, IWatchRequest } from "etcd3"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, keys, metrics, server } from "../utils/etcd.ts"
import * as Proxy from "../utils/proxy.ts"
import { until } from "../utils/until.ts"

/** Removes every key's history. */
const compact = (client: Etcd3) =>
  Effect.promise(async () => {
    const { header } = await client.put("other").value("of somebody else")
    await client.kv.compact({ revision: header.revision, physical: true })
  })

describe("while the server is frozen", () => {
  it.live(
    "the holder is interrupted in time, a waiter can be interrupted, and others acquire after the thaw",
    () =>
      Effect.gen(function*() {
        const etcd = yield* server
        const client = yield* connect(etcd.url)
        yield* Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("frozen", { ttl: "2 seconds" })
          const holder = yield* Effect.forkScoped(Effect.flip(semaphore.withPermits(1)(Effect.never)))
          yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
          const waiter = yield* Effect.forkScoped(semaphore.withPermits(1)(Effect.void))
          yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))

          yield* Effect.promise(etcd.freeze)
          const [sinceFreeze, error] = yield* Effect.timed(Fiber.join(holder))
          expect(error).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
          expect(Duration.toMillis(sinceFreeze)).toBeLessThan(2000)
          const [duration] = yield* Effect.timed(Fiber.interrupt(waiter))
          expect(Duration.toMillis(duration)).toBeLessThan(1000)

          yield* Effect.promise(etcd.thaw)
          yield* until(
            Effect.map(Effect.exit(semaphore.withPermits(1)(Effect.void)), (exit) => exit._tag === "Success"),
            "20 seconds"
          )
          yield* until(Effect.map(keys(client), (names) => names.length === 0))
        }).pipe(Effect.provide(EtcdBacking.layer(client)))
      }),
    60_000
  )

  it.live("the layer closes without waiting for the server", () =>
    Effect.gen(function*() {
      const etcd = yield* server
      const client = yield* connect(etcd.url)
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(EtcdBacking.layer(client), scope)
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make("key", { ttl: "3 seconds", refreshInterval: "100 millis" })
        yield* mutex.withPermits(1)(Effect.void)
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.never))
        const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.never))
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1))
        yield* Effect.promise(etcd.freeze)
        // By now a refresh is under way.
        yield* Effect.sleep("300 millis")
        const [duration] = yield* Effect.timed(
          Effect.andThen(Fiber.interruptAll([holder, waiter]), Scope.close(scope, Exit.void))
        )
        expect(Duration.toMillis(duration)).toBeLessThan(2000)
      }).pipe(Effect.provide(context), Effect.ensuring(Effect.promise(etcd.thaw)))
    }))
})

describe("a server that restarts again and again", { concurrent: true }, () => {
  it.live(
    "does not endanger the limit, hand-offs go on by notification, and nothing is left",
    () =>
      Effect.gen(function*() {
        const etcd = yield* server
        const client = yield* connect(etcd.url)
        yield* Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("load", { limit: 3, ttl: "4 seconds" })
          const seen = { out: 0, most: 0, done: 0 }
          const running = { value: true }
          const work = Effect.acquireUseRelease(
            Effect.sync(() => void (seen.most = Math.max(seen.most, ++seen.out))),
            () => Effect.sleep("50 millis"),
            () => Effect.sync(() => void seen.out--)
          )
          const worker = Effect.gen(function*() {
            while (running.value) {
              const exit = yield* Effect.exit(semaphore.withPermits(1)(work))
              if (exit._tag === "Success") seen.done++
            }
          })
          const workers = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.forkScoped(worker))
          for (let round = 0; round < 3; round++) {
            const before = seen.done
            yield* until(Effect.sync(() => seen.done > before + 50), "20 seconds")
            yield* Effect.promise(etcd.kill)
            yield* Effect.sleep("300 millis")
            yield* Effect.promise(etcd.restart)
          }
          const before = seen.done
          // 200 hand-offs by polling once a second would take longer than a minute.
          yield* until(Effect.sync(() => seen.done > before + 200), "45 seconds")
          running.value = false
          yield* Effect.timeout(Fiber.awaitAll(workers), "20 seconds")
          expect(seen.most).toBe(3)
          yield* until(Effect.map(keys(client), (names) => names.length === 0))
        }).pipe(Effect.provide(EtcdBacking.layer(client)))
      }),
    120_000
  )
})

describe("a compaction", { concurrent: true }, () => {
  it.live(
    "while the watch is cut does not keep the watch from coming back, nor the waiters from their turn",
    () =>
      Effect.gen(function*() {
        const etcd = yield* server
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => Proxy.make(etcd)),
          (proxy) => Effect.promise(() => proxy.close())
        )
        const direct = yield* connect(etcd.url)
        const holding = yield* Layer.build(EtcdBacking.layer(direct, { pushBasedAcquireEnabled: false }))
        const waiting = yield* Layer.build(EtcdBacking.layer(yield* connect(`http://127.0.0.1:${proxy.port}`)))
        const make = DistributedSemaphore.make("key", { ttl: "1 minute" })
        const scope = yield* Scope.make()
        const mutex = yield* Effect.provide(make, holding)
        yield* Scope.provide(mutex.take(1), scope)
        const waiters = yield* Effect.forEach([1, 2], () =>
          Effect.forkScoped(
            Effect.flatMap(Effect.provide(make, waiting), (mutex) => mutex.withPermits(1)(Effect.void))
          ))
        const watchers = Effect.map(metrics(etcd.url), (all) => all.etcd_debugging_mvcc_watcher_total)
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 2))
        yield* until(Effect.map(watchers, (count) => count! >= 1))

        proxy.refuse()
        yield* until(Effect.map(watchers, (count) => count === 0))
        yield* Scope.close(scope, Exit.void)
        yield* compact(direct)
        proxy.accept()
        // With a ttl of a minute, looks alone would take much longer.
        yield* Effect.timeout(Fiber.joinAll(waiters), "15 seconds")
        // One is for the key, the other for revocations.
        expect(yield* watchers).toBeLessThanOrEqual(2)
      }),
    60_000
  )

  it.live("between a look and the watch that should begin there leads to a new watch", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const [client, direct] = [yield* connect(url), yield* connect(url)]
      let starts = 0
      const watch = client.watchClient.watch.bind(client.watchClient)
      client.watchClient.watch = async (options) => {
        const stream = await watch(options)
        const write = stream.write.bind(stream)
        return Object.assign(stream, {
          write: async (request: IWatchRequest) => {
            const isOfKey = `${request.create_request!.key}` === "semaphore/key/"
            // Removes the revision at which the watch begins, and more.
            if (isOfKey && ++starts <= 2) await Effect.runPromise(Effect.andThen(compact(direct), compact(direct)))
            write(request)
          }
        })
      }
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make("key", { ttl: "1 minute" })
        const done = yield* Deferred.make<void>()
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Deferred.await(done)), { startImmediately: true })
        yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
        const waiters = yield* Effect.forEach([1, 2], () => Effect.forkScoped(mutex.withPermits(1)(Effect.void)))
        yield* until(Effect.sync(() => starts >= 3))
        yield* Deferred.succeed(done, undefined)
        yield* Effect.timeout(Fiber.joinAll([holder, ...waiters]), "5 seconds")
      }).pipe(Effect.provide(EtcdBacking.layer(client)))
    }))
})

describe("a server that is away for two seconds", () => {
  it.live("is used within a second of its return, by a client without a circuit breaker", () =>
    Effect.gen(function*() {
      const etcd = yield* server
      const client = yield* connect(etcd.url, { faultHandling: { host: () => noop } })
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make("key", {
          backingFailureRetryPolicy: Schedule.spaced("100 millis")
        })
        yield* mutex.withPermits(1)(Effect.void)
        yield* Effect.promise(etcd.kill)
        const acquiring = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.sync(() => performance.now())))
        yield* Effect.sleep("2 seconds")
        yield* Effect.promise(etcd.restart)
        const back = performance.now()
        expect((yield* Fiber.join(acquiring)) - back).toBeLessThan(1000)
      }).pipe(Effect.provide(EtcdBacking.layer(client)))
    }))
})

describe("an etcd lease that somebody revokes", () => {
  /** Revokes the etcd lease of the first name that begins with `prefix`. */
  const revokeLeaseOf = (client: Etcd3, prefix: string) =>
    Effect.promise(async () => {
      const [kv] = (await client.getAll().prefix(prefix).exec()).kvs
      await client.leaseClient.leaseRevoke({ ID: kv!.lease })
    })

  const make = DistributedSemaphore.make("key", { ttl: "3 seconds" })

  /** Makes a semaphore as in a process of its own: its contenders share no etcd lease with others. */
  const inProcess = (url: string, options?: EtcdBacking.EtcdBackingOptions) =>
    Effect.flatMap(
      connect(url),
      (client) =>
        Effect.flatMap(Layer.build(EtcdBacking.layer(client, options)), (context) => Effect.provide(make, context))
    )

  it.live("ends its hold: the next in line acquires at once, and the holder is interrupted at its next refresh", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const client = yield* connect(url)
      const [one, other] = [yield* inProcess(url, { pushBasedAcquireEnabled: false }), yield* inProcess(url)]
      const holder = yield* Effect.forkScoped(
        Effect.flip(one.withPermits(1, { identifier: "holder" })(Effect.never))
      )
      yield* until(Effect.map(one.currentCount, (count) => count === 1))
      const waiter = yield* Effect.forkScoped(other.withPermits(1)(Effect.void))
      yield* until(Effect.map(other.inspect, ({ line }) => line.length === 1))
      yield* until(Effect.map(metrics(url), (all) => all.etcd_debugging_mvcc_watcher_total! >= 1))
      yield* revokeLeaseOf(client, "semaphore/key/holder/")
      const [duration] = yield* Effect.timed(Fiber.join(waiter))
      expect(Duration.toMillis(duration)).toBeLessThan(500)
      expect(yield* Fiber.join(holder)).toMatchObject({ _tag: "LockLostError", reason: "revoked" })
      expect(yield* keys(client)).toEqual([])
    }))

  it.live("ends its place: those behind move up, and the waiter joins the end of the line at its next refresh", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const client = yield* connect(url)
      const [one, other] = [yield* inProcess(url), yield* inProcess(url)]
      const done = yield* Deferred.make<void>()
      const order: Array<string> = []
      const holder = yield* Effect.forkScoped(one.withPermits(1)(Deferred.await(done)), { startImmediately: true })
      yield* until(Effect.map(one.currentCount, (count) => count === 1))
      const line = Effect.map(one.inspect, ({ line }) => line.map(({ identifier }) => identifier).join())
      const waiters: Array<Fiber.Fiber<unknown, unknown>> = []
      for (const [mutex, identifier, expected] of [[other, "a", "a"], [one, "b", "a,b"]] as const) {
        const work = Effect.sync(() => order.push(identifier))
        waiters.push(yield* Effect.forkScoped(mutex.withPermits(1, { identifier })(work)))
        yield* until(Effect.map(line, (names) => names === expected))
      }
      yield* revokeLeaseOf(client, "semaphore/key/a/")
      yield* until(Effect.map(line, (names) => names === "b,a"), "4 seconds")
      yield* Deferred.succeed(done, undefined)
      yield* Fiber.joinAll([holder, ...waiters])
      expect(order).toEqual(["b", "a"])
    }))
})
