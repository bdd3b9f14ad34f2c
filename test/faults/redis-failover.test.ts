/**
 * A failover behind one address, as of a managed Redis: a replica becomes the primary, and the address leads to it.
 * The old primary becomes a replica. It keeps the connections that are open, and answers writes with READONLY.
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Schedule } from "effect"
import type { RedisOptions } from "ioredis"
import { readFileSync } from "node:fs"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import * as RedisPair from "../servers/redisPair.ts"
import * as Proxy from "../utils/proxy.ts"
import { connect } from "../utils/redis.ts"
import { longestStall } from "../utils/stall.ts"
import { until } from "../utils/until.ts"

const reconnectOnError: NonNullable<RedisOptions["reconnectOnError"]> = (error) => error.message.includes("READONLY")

const build = (options: Pick<RedisOptions, "reconnectOnError"> = {}) =>
  Effect.gen(function*() {
    const pair = yield* Effect.acquireRelease(
      Effect.promise(RedisPair.start),
      (pair) => Effect.promise(pair.stop)
    )
    const address = yield* Effect.acquireRelease(
      Effect.promise(() => Proxy.make(pair.first)),
      (proxy) => Effect.promise(proxy.close)
    )
    return {
      pair,
      redis: yield* connect(`redis://127.0.0.1:${address.port}`, options),
      failover: Effect.promise(async () => {
        address.redirect(pair.second)
        await pair.failover()
      })
    }
  })

describe("after a failover behind one address, a client", { concurrent: true }, () => {
  it.live("with the README's reconnectOnError goes on with the new primary, and loses nothing", () =>
    Effect.gen(function*() {
      const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8")
      expect(readme).toContain(`reconnectOnError: ${reconnectOnError}`)

      const { failover, pair, redis } = yield* build({ reconnectOnError })
      const observer = yield* connect(pair.second.url)
      yield* Effect.gen(function*() {
        const ttl = Duration.seconds(3)
        const mutex = yield* DistributedSemaphore.make("key", { ttl })
        const done = yield* Deferred.make<void>()
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Deferred.await(done)))
        yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
        const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.succeed("done")))
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1))

        yield* failover
        const other = yield* DistributedSemaphore.make("other", { ttl })
        yield* Effect.timeout(other.withPermits(1)(Effect.void), "1 second")
        // Long enough for a hold that nobody refreshes to end.
        yield* Effect.sleep(Duration.times(ttl, 1.5))
        expect([holder.pollUnsafe(), waiter.pollUnsafe()]).toEqual([undefined, undefined])
        yield* Deferred.succeed(done, undefined)
        expect(yield* Effect.timeout(Fiber.join(waiter), "1500 millis")).toBe("done")
        yield* Fiber.join(holder)

        yield* mutex.withPermits(1)(Effect.gen(function*() {
          const elsewhere = yield* Effect.provide(DistributedSemaphore.make("key"), RedisBacking.layer(observer))
          expect(yield* elsewhere.currentCount).toBe(1)
        }))
      }).pipe(Effect.provide(RedisBacking.layer(redis)))
    }))

  it.live("without it stays with the old primary, which refuses all writes, and the work is interrupted in time", () =>
    Effect.gen(function*() {
      const { failover, redis } = yield* build()
      yield* Effect.gen(function*() {
        // The margin of a lease is a twentieth of this: other work of the machine may take a part of it.
        const ttl = Duration.seconds(6)
        const mutex = yield* DistributedSemaphore.make("key", { ttl })
        const holder = yield* Effect.forkScoped(Effect.flip(mutex.withPermits(1)(Effect.never)))
        yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
        yield* failover
        const stall = yield* longestStall
        const [duration, error] = yield* Effect.timed(Fiber.join(holder))
        expect(error).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
        expect(Duration.toMillis(duration) - (yield* stall)).toBeLessThan(Duration.toMillis(ttl))
        const impatient = yield* DistributedSemaphore.make("other", { backingFailureRetryPolicy: Schedule.recurs(2) })
        const refused = yield* Effect.flip(impatient.withPermits(1)(Effect.void))
        expect(String(refused.cause)).toContain("READONLY")
      }).pipe(Effect.provide(RedisBacking.layer(redis)))
    }))
})
