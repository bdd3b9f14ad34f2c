/** What hand-offs cost etcd, counted by its own metrics. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import { counted, growth } from "../utils/etcdCounted.ts"
import { until } from "../utils/until.ts"

describe("a hand-off", () => {
  it.live(
    "costs one raft write and one request, with 10 waiters as with 1000; all share one watch",
    () =>
      Effect.gen(function*() {
        for (const size of [10, 100, 1000]) {
          const counts = yield* counted()
          // The ttl is so long that no place is renewed meanwhile, however slow the machine is.
          const mutex = yield* Effect.provide(DistributedSemaphore.make("key", { ttl: "10 minutes" }), counts.context)
          const holder = yield* Scope.make()
          yield* Scope.provide(mutex.take(1), holder)
          const waiters = yield* Effect.forEach(
            Array.from({ length: size }),
            () => Effect.forkScoped(mutex.withPermits(1)(Effect.void))
          )
          yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === size), "30 seconds")
          yield* until(Effect.map(counts.watchers, (count) => count >= 1))
          // Waiters that asked before the watch stood look once, and may move to other leases.
          yield* until(Effect.map(growth(counts.proposals, Effect.sleep("500 millis")), (written) => written === 0))

          const [requestsBefore, proposalsBefore] = [yield* counts.requests, yield* counts.proposals]
          const [duration] = yield* Effect.timed(
            Effect.andThen(Scope.close(holder, Exit.void), Effect.timeout(Fiber.joinAll(waiters), "60 seconds"))
          )
          const requests = ((yield* counts.requests) - requestsBefore) / size
          const proposals = ((yield* counts.proposals) - proposalsBefore) / size
          console.log(`${size} waiters: ${requests} messages and ${proposals} raft writes per hand-off, ${duration}`)
          // One release is the holder's. The first in line looks once a second, and may then move to a lease of its own: that
          // takes four messages, and two raft writes.
          const looks = 2 + Duration.toSeconds(duration)
          expect(proposals).toBeLessThanOrEqual(1 + (1 + 2 * looks) / size)
          expect(requests).toBeLessThanOrEqual(1 + (1 + 4 * looks) / size)
          // One is for the key, the other for the revocations of all keys.
          expect(yield* counts.watchers).toBeLessThanOrEqual(2)
        }
      }),
    180_000
  )

  it.live("shares its raft write with the next acquire, where a permit goes round", () =>
    Effect.gen(function*() {
      const counts = yield* counted()
      const mutex = yield* Effect.provide(DistributedSemaphore.make("key", { ttl: "1 minute" }), counts.context)
      let turns = 0
      const caller = Effect.forever(mutex.withPermits(1)(Effect.sync(() => turns++)))
      yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.forkScoped(caller), { discard: true })
      const after = (count: number) => until(Effect.sync(() => turns >= count), "30 seconds")
      yield* after(100)
      const before = turns
      const written = yield* growth(counts.proposals, after(600))
      console.log(`${written / (turns - before)} raft writes a cycle`)
      expect(written / (turns - before)).toBeLessThan(1.5)
    }))

  it.live(
    "costs at most two raft writes, with the joining of the line, if all workers ask again at once",
    () =>
      Effect.gen(function*() {
        const counts = yield* counted()
        const make = DistributedSemaphore.make("key", { limit: 3, ttl: "10 seconds" })
        const semaphore = yield* Effect.provide(make, counts.context)
        const handOffs = 50
        const worker = Effect.repeat(semaphore.withPermits(1)(Effect.sleep("5 millis")), { times: handOffs - 1 })
        const workers = 20
        const [txnsBefore, proposalsBefore] = [yield* counts.txns, yield* counts.proposals]
        const [duration] = yield* Effect.timed(
          Effect.timeout(
            Effect.all(Array.from({ length: workers }, () => worker), { concurrency: workers }),
            "2 minutes"
          )
        )
        const all = workers * handOffs
        const txns = ((yield* counts.txns) - txnsBefore) / all
        const proposals = ((yield* counts.proposals) - proposalsBefore) / all
        console.log(
          `${workers} workers, 3 permits: ${txns} requests and ${proposals} raft writes per hand-off, ${duration}`
        )
        expect(txns).toBeLessThan(2.5)
        expect(proposals).toBeLessThan(2.1)
      }),
    150_000
  )
})
