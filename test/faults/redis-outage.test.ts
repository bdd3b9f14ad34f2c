/** S2 and L3: a server that is frozen, out of reach, or killed. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Exit, Fiber, Layer, Option, Random, Schedule } from "effect"
import {
  DistributedSemaphore,
  DistributedSemaphoreBacking,
  Lease,
  LockLostError,
  RedisBacking
} from "../../src/index.ts"
import * as Proxy from "../utils/proxy.ts"
import { channels, connect, server } from "../utils/redis.ts"
import { longestStall } from "../utils/stall.ts"
import { until } from "../utils/until.ts"

const millis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/** They wait more than they work, each with a server of its own. */
describe("when the server is", { concurrent: true }, () => {
  const policies: ReadonlyArray<readonly [string, DistributedSemaphore.DistributedSemaphoreConfig]> = [
    ["the default policy", {}],
    ["a policy that retries for ever", { backingFailureRetryPolicy: Schedule.spaced("50 millis") }]
  ]
  const cases = ["frozen", "unreachable"].flatMap((fault) =>
    policies.map(([policy, config]) => [fault, policy, config] as const)
  )
  it.live.each(cases)(
    "%s, the work is interrupted before its lease of 4 seconds is over, with %s",
    ([fault, , config]) =>
      Effect.gen(function*() {
        const redisServer = yield* server
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => Proxy.make(redisServer)),
          (proxy) => Effect.promise(() => proxy.close())
        )
        const redis = yield* connect(`redis://127.0.0.1:${proxy.port}`)
        // Records when the last request was sent that was answered: that was the last refresh. One whose script the server did not
        // know was repeated by its text, and counts from its first attempt.
        let lastSent = 0
        const send = redis.sendCommand.bind(redis)
        redis.sendCommand = (command, ...args) => {
          const sent = performance.now()
          if (command.name === "evalsha") command.promise.then(() => lastSent = sent, () => {})
          return send(command, ...args)
        }

        let interrupted = 0
        const semaphore = yield* Effect.provide(
          DistributedSemaphore.make("key", { ttl: "4 seconds", ...config }),
          RedisBacking.layer(redis)
        )
        const work = yield* Effect.forkScoped(
          semaphore.withPermits(1)(Effect.onInterrupt(Effect.never, () =>
            Effect.sync(() => {
              interrupted = performance.now()
            }))),
          { startImmediately: true }
        )
        yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
        // Let a refresh succeed, by the name of its script.
        const before = lastSent
        yield* until(Effect.sync(() => lastSent > before))
        if (fault === "frozen") yield* Effect.promise(redisServer.freeze)
        else proxy.refuse()

        const stall = yield* longestStall
        const exit = yield* Effect.timeout(Fiber.await(work), "8 seconds")
        const told = performance.now()
        if (fault === "frozen") yield* Effect.promise(redisServer.thaw)
        const error = Option.getOrThrow(Exit.findErrorOption(exit))
        expect(error).toBeInstanceOf(LockLostError)
        expect(error).toMatchObject({ key: "key", reason: "unreachable" })
        expect(interrupted - lastSent - (yield* stall)).toBeLessThan(4000)
        expect(interrupted - lastSent).toBeGreaterThan(3500)
        expect(told - interrupted).toBeLessThan(500)
      })
  )
})

describe("a server that is killed and started again under load", { concurrent: true }, () => {
  it.live.each([true, false])(
    "lets no waiter hang and no holder go on past its lease, and subscriptions come back, push %s",
    (push) =>
      Effect.gen(function*() {
        const redisServer = yield* server
        const redis = yield* connect(redisServer.url, { retryStrategy: () => 50 })
        const observer = yield* connect(redisServer.url, { retryStrategy: () => 50 })
        yield* Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key", { limit: 3, ttl: "4 seconds" })
          let cycles = 0
          let overstayed = 0
          let stop = false
          const work = Effect.gen(function*() {
            const lease = yield* Lease
            const end = (yield* millis) + (yield* Random.nextBetween(1, 20))
            while ((yield* millis) < end) {
              yield* Effect.sleep("1 millis")
              // Work must not go on after its lease is over.
              if (lease.keepAlive.pollUnsafe() !== undefined) overstayed++
            }
            cycles++
          })
          const contender = semaphore.withPermits(1)(work).pipe(
            Effect.catchTag("LockLostError", () => Effect.void),
            Effect.repeat({ until: () => stop })
          )

          // Others hold for as long as they can. A server that is killed forgets their holds: their leases end at most
          // a ttl later.
          const ttl = 2000
          const long = yield* DistributedSemaphore.make("long", { limit: 3, ttl })
          let lastKill = Number.NEGATIVE_INFINITY
          let lost = 0
          const longWork = Effect.gen(function*() {
            const start = yield* millis
            yield* Effect.sleep("1 millis").pipe(
              Effect.andThen(Effect.map(millis, (now) => {
                if (start < lastKill && now > lastKill + ttl) overstayed++
              })),
              Effect.forever
            )
          })
          const longHolders = yield* Effect.forEach([1, 2, 3], () =>
            Effect.forkScoped(
              long.withPermits(1)(longWork).pipe(
                Effect.catchTag("LockLostError", () => Effect.sync(() => lost++)),
                Effect.forever
              )
            ))
          const contenders = yield* Effect.forEach(
            Array.from({ length: 20 }),
            () => Effect.forkScoped(contender)
          )
          for (let kill = 0; kill < 3; kill++) {
            const before = cycles
            yield* until(Effect.sync(() => cycles > before + 20))
            yield* until(Effect.map(long.currentCount, (count) => count === 3))
            yield* Effect.promise(redisServer.kill)
            lastKill = yield* millis
            yield* Effect.sleep("300 millis")
            yield* Effect.promise(redisServer.restart)
          }
          const before = cycles
          yield* until(Effect.sync(() => cycles > before + 50))
          if (push) {
            // The one channel of the key is subscribed again, and so is that of revocations.
            yield* until(Effect.map(channels(observer), (subscribed) =>
              subscribed.length === 2 && subscribed.includes("semaphore:revocations") &&
              subscribed.some((channel) =>
                channel.startsWith("semaphore:{key}:")
              )))
          }
          yield* until(Effect.map(millis, (now) =>
            now > lastKill + ttl + 100))
          stop = true
          yield* Effect.timeout(Fiber.joinAll(contenders), "15 seconds")
          yield* Fiber.interruptAll(longHolders)
          expect(overstayed).toBe(0)
          // Each of the three holders has lost its lease at each of the three kills.
          expect(lost).toBe(9)
          expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
        }).pipe(Effect.provide(RedisBacking.layer(redis, { pushBasedAcquireEnabled: push })))
      }),
    60_000
  )

  it.live("a waiter looks again as soon as its lost connection is restored", () =>
    Effect.gen(function*() {
      const redisServer = yield* server
      const redis = yield* connect(redisServer.url)
      const observer = yield* connect(redisServer.url)
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("key", { ttl: "1 minute" })
        const backing = yield* DistributedSemaphoreBacking
        yield* backing.tryAcquire("key", "holder", Duration.minutes(1), 1, 1)
        const waiters = yield* Effect.forEach([1, 2, 3], () =>
          Effect.forkScoped(semaphore.withPermits(1)(Effect.void), { startImmediately: true }))
        yield* until(Effect.map(semaphore.inspect, ({ line }) =>
          line.length === 3))
        yield* until(Effect.map(channels(observer), (subscribed) => subscribed.length === 1))
        // The message of this release, by another process, finds no subscriber.
        const other = yield* Layer.build(Layer.fresh(RedisBacking.layer(redis)))
        yield* Effect.promise(() => observer.call("CLIENT", "KILL", "TYPE", "pubsub"))
        yield* Context.get(other, DistributedSemaphoreBacking).release("key", "holder", 1)
        yield* Effect.timeout(Fiber.joinAll(waiters), "900 millis")
      }).pipe(Effect.provide(RedisBacking.layer(redis)))
    }))
})
