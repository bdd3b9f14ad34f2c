/** S5: the request is applied, and the connection is cut before its reply arrives. */
import { describe, expect, it } from "@effect/vitest"
import { noop } from "cockatiel"
import { Deferred, Duration, Effect, Fiber, Layer } from "effect"
import type { Scope } from "effect"
import { inject } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import * as Scripts from "../../src/backings/redis/scripts.ts"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import * as Etcd from "../utils/etcd.ts"
import * as Postgres from "../utils/postgres.ts"
import * as Proxy from "../utils/proxy.ts"
import { connect } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

/** For each store: its backing behind the port of a proxy, and what the requests of each operation contain. */
const stores = {
  Redis: {
    url: inject("redisUrl"),
    layer: (port: number, push: boolean) =>
      Layer.unwrap(Effect.map(
        connect(`redis://127.0.0.1:${port}`),
        (redis) => RedisBacking.layer(redis, { pushBasedAcquireEnabled: push })
      )),
    requests: {
      tryAcquire: Scripts.tryAcquire.sha,
      join: Scripts.tryAcquire.sha,
      refresh: Scripts.refreshAll.sha,
      release: Scripts.release.sha
    }
  },
  PostgreSQL: {
    url: inject("postgresUrl"),
    layer: (port: number, push: boolean) => {
      const url = new URL(inject("postgresUrl"))
      url.port = String(port)
      return PostgresBacking.layer({ pushBasedAcquireEnabled: push }).pipe(
        // Prepared statements would be sent without their text.
        Layer.provide(Postgres.client(url.href, { prepare: false }))
      )
    },
    requests: { tryAcquire: "queue", join: "queue", refresh: "refresh", release: "release" }
  },
  etcd: {
    url: inject("etcdUrl"),
    layer: (port: number, push: boolean) =>
      Layer.unwrap(Effect.map(
        // As docs/etcd.md says: without the circuit breaker, which would keep the client from a server that is back.
        Etcd.connect(`http://127.0.0.1:${port}`, { faultHandling: { host: () => noop } }),
        (client) => EtcdBacking.layer(client, { pushBasedAcquireEnabled: push })
      )),
    // A contender's value is its number of permits, the ttl and the limit. A release names the key, without a value.
    requests: {
      tryAcquire: /\d 60 \d/,
      join: /\d 60 \d/,
      refresh: /semaphore\/lost/,
      release: /[0-9a-f-]{36}\/a(?![^]*\d 60 \d)/
    }
  }
}

const proxied = (url: string) => {
  const { hostname, port } = new URL(url)
  return Effect.acquireRelease(
    Effect.promise(() => Proxy.make({ host: hostname, port: Number(port) })),
    (proxy) => Effect.promise(() => proxy.close())
  )
}

let keys = 0

describe.each(
  [
    ["Redis", true],
    ["Redis", false],
    ["PostgreSQL", true],
    ["PostgreSQL", false],
    ["etcd", true],
    ["etcd", false]
  ] as const
)("a lost reply of %s, push %s", { concurrent: true }, (store, push) => {
  const { layer, requests, url } = stores[store]
  const ttl = "60 seconds"
  /** Longer than a reconnect takes on a busy machine, and much shorter than a third of the ttl. */
  const soon = Duration.seconds(8)

  const test = (
    name: string,
    body: (context: {
      readonly semaphore: DistributedSemaphore.DistributedSemaphore
      readonly lose: (operation: keyof typeof requests) => Promise<void>
    }) => Effect.Effect<void, unknown, Scope.Scope>
  ) =>
    it.live(name, () =>
      Effect.gen(function*() {
        const proxy = yield* proxied(url)
        yield* Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make(`lost-${process.pid}-${keys++}`, {
            limit: 2,
            ttl,
            refreshInterval: "200 millis"
          })
          // Redis loads the scripts, so that the request with the hash is the one that is applied.
          yield* semaphore.withPermits(1)(Effect.sleep("250 millis"))
          yield* body({ semaphore, lose: (operation) => proxy.loseReplyTo(requests[operation]) })
        }).pipe(Effect.provide(layer(proxy.port, push)))
      }))

  test("to an acquire: the caller holds after the reconnect, and its permits count once", ({ lose, semaphore }) =>
    Effect.gen(function*() {
      const lost = lose("tryAcquire")
      const inside = yield* Effect.timeout(semaphore.withPermits(2)(semaphore.currentCount), soon)
      yield* Effect.promise(() => lost)
      expect(inside).toBe(2)
      // A release that takes long, because more connections were lost, goes on in the background.
      yield* until(Effect.map(semaphore.currentCount, (count) => count === 0), soon)
    }))

  test("to an acquire that joins the line: the waiter keeps its place, and acquires in order", ({ lose, semaphore }) =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const done = yield* Deferred.make<void>()
      const holder = yield* Effect.forkScoped(semaphore.withPermits(2)(Deferred.await(done)), {
        startImmediately: true
      })
      yield* until(Effect.map(semaphore.currentCount, (count) => count === 2))
      // On etcd, a request that follows a refusal joins the line at once, without an attempt to acquire.
      yield* Effect.scoped(semaphore.tryTake(2))
      const lost = lose("join")
      const first = yield* Effect.forkScoped(semaphore.withPermits(2)(Effect.sync(() => order.push("first"))), {
        startImmediately: true
      })
      yield* Effect.promise(() => lost)
      yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 1))
      const second = yield* Effect.forkScoped(semaphore.withPermits(2)(Effect.sync(() => order.push("second"))))
      yield* Effect.sleep("500 millis")
      yield* Deferred.succeed(done, undefined)
      yield* Effect.timeout(Fiber.joinAll([holder, first, second]), soon)
      expect(order).toEqual(["first", "second"])
      yield* until(
        Effect.map(semaphore.inspect, ({ holderCount, waiterCount }) => holderCount + waiterCount === 0),
        soon
      )
    }))

  test("to a refresh: the lease goes on", ({ lose, semaphore }) =>
    Effect.gen(function*() {
      const inside = yield* semaphore.withPermits(1)(Effect.gen(function*() {
        yield* Effect.promise(() => lose("refresh"))
        yield* Effect.sleep("1 second")
        return yield* semaphore.currentCount
      }))
      expect(inside).toBe(1)
    }))

  test("to a release: all waiters of the process that it granted acquire", ({ lose, semaphore }) =>
    Effect.gen(function*() {
      const done = yield* Deferred.make<void>()
      const holder = yield* Effect.forkScoped(semaphore.withPermits(2)(Deferred.await(done)), {
        startImmediately: true
      })
      yield* until(Effect.map(semaphore.currentCount, (count) => count === 2))
      const waiters = yield* Effect.forEach(
        [1, 2],
        () => Effect.forkScoped(semaphore.withPermits(1)(Effect.sleep("2 seconds")), { startImmediately: true })
      )
      yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 2))
      // By now they are notified of grants, and have looked.
      yield* Effect.sleep("500 millis")
      const lost = lose("release")
      yield* Deferred.succeed(done, undefined)
      yield* Effect.promise(() => lost)
      // The second in line would look after a third of its ttl.
      yield* Effect.timeout(Fiber.joinAll([holder, ...waiters]), Duration.sum(soon, Duration.seconds(2)))
    }))

  test("to a release: its permits are freed, and no others", ({ lose, semaphore }) =>
    Effect.gen(function*() {
      const neighbour = yield* semaphore.take(1)
      const lost = lose("release")
      yield* Effect.timeout(semaphore.withPermits(1)(Effect.void), soon)
      yield* Effect.promise(() => lost)
      // A release that takes long goes on in the background.
      yield* until(Effect.map(semaphore.currentCount, (count) => count === 1), soon)
      expect(neighbour.pollUnsafe()).toBeUndefined()
    }))
})
