/** L4: interrupting an acquire at any moment leaves nothing behind in etcd. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, keys, leases, metrics, server } from "../utils/etcd.ts"
import * as Fibers from "../utils/fibers.ts"
import { interruptTakes } from "../utils/interruptions.ts"
import { until } from "../utils/until.ts"

describe.each([true, false])("interrupting take at any moment, push %s", (push) => {
  it.live(
    "1000 times leaves no key, no fiber, no watcher but the shared one, and no lease but the few that are kept",
    () =>
      Fibers.counted((running) =>
        Effect.gen(function*() {
          const { url } = yield* server
          const observer = yield* connect(url)
          const client = yield* connect(url)
          yield* Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
            const cycle = semaphore.withPermits(1)(Effect.void)
            yield* cycle
            // How long an acquire takes depends on the machine's disk.
            const [duration] = yield* Effect.timed(Effect.repeat(cycle, { times: 9 }))
            const latest = Math.max(12, Duration.toMillis(duration) / 10 * 3)
            // The subscription of the key outlives its last waiter, so it is there before and after.
            const holder = yield* Effect.forkScoped(
              Effect.scoped(Effect.andThen(semaphore.take(2), Effect.sleep("300 millis")))
            )
            yield* until(Effect.map(semaphore.currentCount, (count) => count === 2))
            yield* cycle
            yield* Fiber.join(holder)
            const before = yield* Fibers.steady(running)
            yield* interruptTakes(semaphore, latest)
            yield* until(Effect.map(keys(observer), (names) => names.length === 0))
            yield* until(Effect.map(leases(observer), (all) => all.length <= 16))
            expect((yield* metrics(url)).etcd_debugging_mvcc_watcher_total).toBe(push ? 1 : 0)
            expect(yield* Fibers.steady(running)).toBe(before)
          }).pipe(Effect.provide(EtcdBacking.layer(client, { pushBasedAcquireEnabled: push })))
          yield* until(Effect.map(leases(observer), (all) => all.length === 0))
          yield* until(Effect.map(metrics(url), (all) => all.etcd_debugging_mvcc_watcher_total === 0))
          expect(yield* keys(observer)).toEqual([])
        })
      ),
    120_000
  )
})
