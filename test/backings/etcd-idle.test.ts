/** What holds and waiters cost etcd while nothing happens, counted by its own metrics. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import { counted, growth, holds } from "../utils/etcdCounted.ts"
import { until } from "../utils/until.ts"

/** They wait more than they work, each with a server of its own. */
describe("a thousand idle", { concurrent: true }, () => {
  const intervals = 3

  /** Contenders that are refreshed together share their leases by and by: then nothing is written any more. */
  const idle = Effect.fnUntraced(function*({ proposals, requests }: Effect.Success<ReturnType<typeof counted>>) {
    const seen: Array<readonly [written: number, asked: number]> = []
    yield* until(
      Effect.gen(function*() {
        const written = yield* proposals
        const cpu = process.cpuUsage()
        const asked = yield* growth(requests, Effect.sleep(Duration.seconds(intervals)))
        const { system, user } = process.cpuUsage(cpu)
        seen.push([(yield* proposals) - written, asked / intervals])
        const percent = (user + system) / intervals / 10_000
        console.log(`${seen.at(-1)![0]} writes, ${asked / intervals} messages and ${percent} % of a core`)
        return seen.at(-1)![0] === 0 && seen.at(-1)![1] <= 20
      }),
      "90 seconds"
    )
  })

  // Refreshes are as frequent as with a ttl of 3 seconds, but an overloaded machine loses no lease.
  const options = { ttl: "30 seconds", refreshInterval: "1 second", limit: 1000 } as const

  it.live(
    "holds of one key write nothing, and cost at most 20 messages per refreshInterval",
    () =>
      Effect.gen(function*() {
        const counts = yield* counted()
        const semaphore = yield* Effect.provide(DistributedSemaphore.make("key", options), counts.context)
        const scope = yield* Effect.scope
        const [took] = yield* Effect.timed(holds(Array.from({ length: 1000 }, () => semaphore), scope))
        console.log(`1000 holds of one key after ${Duration.format(took)}`)
        expect(yield* semaphore.currentCount).toBe(1000)
        yield* idle(counts)
      }),
    150_000
  )

  it.live(
    "holds of a thousand keys write nothing, and cost at most 20 messages per refreshInterval",
    () =>
      Effect.gen(function*() {
        const counts = yield* counted()
        const scope = yield* Effect.scope
        const semaphores = yield* Effect.forEach(
          Array.from({ length: 1000 }),
          (_, index) => Effect.provide(DistributedSemaphore.make(`key ${index}`, options), counts.context)
        )
        yield* holds(semaphores, scope)
        yield* idle(counts)
      }),
    150_000
  )

  it.live("waiters write nothing, and cost at most 20 messages per refreshInterval", () =>
    Effect.gen(function*() {
      const counts = yield* counted()
      const mutex = yield* Effect.provide(DistributedSemaphore.make("key", { ...options, limit: 1 }), counts.context)
      yield* mutex.take(1)
      for (let i = 0; i < 1000; i++) {
        yield* Effect.forkScoped(mutex.withPermits(1)(Effect.void))
        if (i % 10 === 0) yield* Effect.sleep("10 millis")
      }
      yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1000))
      yield* idle(counts)
    }), 150_000)
})
