/** L4: interrupting an acquire at any moment leaves nothing behind. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Scope } from "effect"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import * as Fibers from "../utils/fibers.ts"
import { interruptTakes } from "../utils/interruptions.ts"
import { connect, connectedClients, keys, server } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

describe.each([true, false])("interrupting take after 0 to 3 ms, push %s", (push) => {
  it.live(
    "1000 times leaves no permit, no place, no connection and no fiber",
    () =>
      Fibers.counted((running) =>
        Effect.gen(function*() {
          const { url } = yield* server
          const redis = yield* connect(url)
          const observer = yield* connect(url)
          yield* until(Effect.map(connectedClients(observer), (clients) => clients === 2))

          yield* Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
            // A waiter makes the layer open its subscriber and the channel, which it keeps.
            yield* Effect.gen(function*() {
              const waiter = yield* Effect.forkChild(Effect.scoped(semaphore.take(1)))
              yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))
              yield* until(Effect.map(connectedClients(observer), (clients) => clients === (push ? 3 : 2)))
              yield* Fiber.interrupt(waiter)
            }).pipe(semaphore.withPermits(2))
            const [fibersBefore, clientsBefore] = [yield* Fibers.steady(running), yield* connectedClients(observer)]

            yield* interruptTakes(semaphore, 3)
            expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
            expect(yield* Fibers.steady(running)).toBe(fibersBefore)
            expect(yield* connectedClients(observer)).toBe(clientsBefore)
          }).pipe(Effect.provide(RedisBacking.layer(redis, { pushBasedAcquireEnabled: push })))

          yield* until(Effect.map(connectedClients(observer), (clients) => clients === 2))
        })
      ),
    120_000
  )

  it.live("while the server is frozen returns within a second, and leaves nothing after the thaw", () =>
    Effect.gen(function*() {
      const redisServer = yield* server
      const redis = yield* connect(redisServer.url)
      const observer = yield* connect(redisServer.url)
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
        const holder = yield* Scope.make()
        yield* Scope.provide(semaphore.take(1), holder)
        const waiters = yield* Effect.forEach([1, 2], () => Effect.forkScoped(semaphore.withPermits(2)(Effect.never)))
        yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 2))

        yield* Effect.promise(redisServer.freeze)
        const late = yield* Effect.forEach([1, 2, 3], () => Effect.forkScoped(semaphore.withPermits(1)(Effect.never)))
        yield* Effect.sleep("50 millis")
        const [duration] = yield* Effect.timed(Fiber.interruptAll([...waiters, ...late]))
        expect(Duration.toMillis(duration)).toBeLessThan(1000)

        yield* Effect.promise(redisServer.thaw)
        yield* until(Effect.map(semaphore.inspect, ({ holders, line }) => holders.length === 1 && line.length === 0))
        yield* Scope.close(holder, yield* Effect.exit(Effect.void))
        expect(yield* semaphore.currentCount).toBe(0)
        // The last token is kept until the key expires.
        expect(yield* keys(observer)).toEqual(["semaphore:{key}"])
        expect(yield* Effect.promise(() => observer.zrange("semaphore:{key}", "0", "-1"))).toEqual(["last"])
      }).pipe(Effect.provide(RedisBacking.layer(redis, { pushBasedAcquireEnabled: push })))
    }))
})
