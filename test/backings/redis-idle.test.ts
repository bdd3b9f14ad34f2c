/** What holds and waiters cost Redis while nothing happens, counted on the server. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { DistributedSemaphore, DistributedSemaphoreBacking } from "../../src/index.ts"
import { commandsDuring, connectedClients } from "../utils/redis.ts"
import { inLine, inProcess, quiet, withServer } from "../utils/redisCounted.ts"
import { until } from "../utils/until.ts"

/** They wait more than they work, each with a server of its own. */
describe("the cost while nothing happens", { concurrent: true }, () => {
  it.live(
    "of 1000 idle waiters of one process is 2 connections, and 2 commands a second at a ttl of 30 seconds",
    () =>
      withServer(({ observer, redis, url }) =>
        Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("key", { ttl: "30 seconds" })
          yield* semaphore.take(1)
          yield* Effect.forEach(
            Array.from({ length: 1000 }),
            () => Effect.forkScoped(semaphore.withPermits(1)(Effect.void), { startImmediately: true })
          )
          yield* until(inLine(redis, 1001))
          // The client, its subscriber, and the observer of this test.
          yield* until(Effect.map(connectedClients(observer), (clients) => clients === 3))
          yield* quiet(url)

          const { commands } = yield* commandsDuring(url, Effect.sleep("12 seconds"))
          expect(commands.length).toBeLessThanOrEqual(2 * 12)
          // All have been refreshed since they joined.
          const { holders, line } = yield* semaphore.inspect
          expect(line).toHaveLength(1000)
          for (const { remaining } of [...holders, ...line]) expect(Duration.toSeconds(remaining)).toBeGreaterThan(17)
          yield* until(Effect.map(connectedClients(observer), (clients) => clients === 3))
        })
      ),
    60_000
  )

  it.live(
    "of 1000 idle holds of as many keys is 20 commands per refreshInterval of a second",
    () =>
      withServer(({ url }) =>
        Effect.gen(function*() {
          const backing = yield* DistributedSemaphoreBacking
          // Refreshes are as frequent as with a ttl of 3 seconds, but an overloaded machine loses no lease.
          const options = { ttl: "30 seconds", refreshInterval: "1 second" } as const
          const each = Array.from({ length: 1000 }, (_, index) => `key ${index}`)
          yield* Effect.forEach(
            each,
            (key) => Effect.flatMap(DistributedSemaphore.make(key, options), ({ take }) => take(1)),
            { concurrency: 100 }
          )
          const { commands } = yield* commandsDuring(url, Effect.sleep("5 seconds"))
          expect(commands.length).toBeGreaterThan(0)
          expect(commands.length).toBeLessThanOrEqual(5 * 20)
          for (const key of each) expect(yield* backing.getCount(key, Duration.seconds(3))).toBe(1)
        })
      ),
    60_000
  )

  it.live(
    "of 1000 idle holds is at most 2 % of a core at a ttl of 3 seconds",
    () =>
      withServer(({ url }) =>
        Effect.gen(function*() {
          const { share } = yield* inProcess(url, "holds", "1000", "0.02")
          expect(share).toBeGreaterThan(0)
          expect(share).toBeLessThanOrEqual(0.02)
        })
      ),
    120_000
  )
})
