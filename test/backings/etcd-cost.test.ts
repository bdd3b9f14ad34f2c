/** What operations cost etcd, counted by its own metrics. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, keys, metrics, server } from "../utils/etcd.ts"
import { until } from "../utils/until.ts"

/** A server of its own, and the backing in as many processes as are asked for. */
const counted = (processes = 1) =>
  Effect.gen(function*() {
    const { url } = yield* server
    const contexts = yield* Effect.forEach(
      Array.from({ length: processes }),
      () => Effect.flatMap(connect(url), (client) => Layer.build(EtcdBacking.layer(client)))
    )
    const proposals = Effect.map(metrics(url), (all) => all.etcd_server_proposals_applied_total!)
    const requests = (name: "Txn" | "LeaseKeepAlive") =>
      Effect.map(metrics(url), (all) => {
        const [, value] = Object.entries(all).find(([metric]) =>
          metric.startsWith(`grpc_server_started_total{grpc_method="${name}"`)
        )!
        return value
      })
    return {
      context: contexts[0]!,
      contexts,
      url,
      proposals,
      txns: requests("Txn"),
      keepAlives: requests("LeaseKeepAlive"),
      /** Also those that compare, and those within txns. */
      ranges: Effect.map(metrics(url), (all) => all.etcd_mvcc_range_total!),
      watchers: Effect.map(metrics(url), (all) => all.etcd_debugging_mvcc_watcher_total!)
    }
  })

/** By how much a count has grown while an effect ran. */
const growth = <A, E, R, E2, R2>(count: Effect.Effect<number, E, R>, effect: Effect.Effect<A, E2, R2>) =>
  Effect.gen(function*() {
    const before = yield* count
    yield* effect
    return (yield* count) - before
  })

/** Waits until a count is at rest, but for the few looks of the first in line. */
const settled = <E, R>(count: Effect.Effect<number, E, R>) =>
  Effect.suspend(() => {
    let last = 0
    const isAtRest = Effect.map(Effect.delay(count, "500 millis"), (now) => {
      const growth = now - last
      last = now
      return growth < 10
    })
    return until(isAtRest, "60 seconds")
  })

const cycles = 100

describe("in the steady state", () => {
  it.live("an uncontended cycle is two raft writes and two requests", () =>
    Effect.gen(function*() {
      const { context, proposals, txns } = yield* counted()
      const mutex = yield* Effect.provide(DistributedSemaphore.make("key"), context)
      const cycle = mutex.withPermits(1)(Effect.void)
      yield* cycle
      const many = Effect.repeat(cycle, { times: cycles - 1 })
      expect(yield* growth(proposals, many)).toBe(2 * cycles)
      expect(yield* growth(txns, many)).toBe(2 * cycles)
    }))

  it.live("a cycle beside other holders is two raft writes, and one look", () =>
    Effect.gen(function*() {
      const { contexts: [first, second], proposals, txns } = yield* counted(2)
      const make = DistributedSemaphore.make("key", { limit: 5, ttl: "1 minute" })
      const other = yield* Effect.provide(make, second!)
      yield* other.take(2)
      const semaphore = yield* Effect.provide(make, first!)
      const cycle = semaphore.withPermits(2)(Effect.void)
      yield* cycle
      const many = Effect.repeat(cycle, { times: cycles - 1 })
      expect(yield* growth(proposals, many)).toBe(2 * cycles)
      expect(yield* growth(txns, many)).toBe(3 * cycles)
    }))

  it.live("tryTake writes nothing when it can't succeed beside others", () =>
    Effect.gen(function*() {
      const { contexts: [first, second], proposals } = yield* counted(2)
      const make = DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
      yield* Effect.flatMap(Effect.provide(make, second!), (semaphore) => semaphore.take(2))
      const semaphore = yield* Effect.provide(make, first!)
      const refused = Effect.scoped(semaphore.tryTake(1))
      yield* refused
      expect(yield* growth(proposals, Effect.repeat(refused, { times: cycles - 1 }))).toBe(0)
    }))

  it.live("a refresh writes nothing", () =>
    Effect.gen(function*() {
      const { context, keepAlives, proposals } = yield* counted()
      const make = DistributedSemaphore.make("key", { ttl: "1 minute", refreshInterval: "20 millis" })
      const mutex = yield* Effect.provide(make, context)
      yield* mutex.take(1)
      const before = yield* keepAlives
      const refreshed = until(Effect.map(keepAlives, (count) => count >= before + 20))
      expect(yield* growth(proposals, refreshed)).toBe(0)
    }))
})

describe("a hand-off", () => {
  it.live(
    "is two raft writes and as many ranges with 10 waiters as with 1000; all share one watch",
    () =>
      Effect.gen(function*() {
        const ranges: Array<number> = []
        for (const size of [10, 100, 1000]) {
          const counts = yield* counted()
          const observer = yield* connect(counts.url)
          // However slow this machine is: nobody renews its place meanwhile.
          const mutex = yield* Effect.provide(DistributedSemaphore.make("key", { ttl: "10 minutes" }), counts.context)
          const holder = yield* Scope.make()
          yield* Scope.provide(mutex.take(1), holder)
          const waiters = yield* Effect.forEach(
            Array.from({ length: size }),
            () => Effect.forkScoped(mutex.withPermits(1)(Effect.void))
          )
          // Each asks once to join, and once more when it is notified: then it renews its lease.
          yield* until(Effect.map(counts.keepAlives, (count) => count >= size), "60 seconds")
          const inLine = Effect.map(keys(observer), (names) => names.filter((name) => name.includes("/line/")).length)
          yield* until(Effect.map(inLine, (count) => count === size), "30 seconds")
          yield* settled(counts.ranges)
          expect(yield* counts.watchers).toBe(1)

          const [rangesBefore, proposalsBefore] = [yield* counts.ranges, yield* counts.proposals]
          const [duration] = yield* Effect.timed(
            Effect.andThen(Scope.close(holder, Exit.void), Effect.timeout(Fiber.joinAll(waiters), "60 seconds"))
          )
          const [rangesAfter, proposalsAfter] = [yield* counts.ranges, yield* counts.proposals]
          ranges.push((rangesAfter - rangesBefore) / size)
          const proposals = (proposalsAfter - proposalsBefore) / size
          console.log(`${size} waiters: ${ranges.at(-1)} ranges and ${proposals} raft writes per hand-off, ${duration}`)
          // Beside hand-offs there are leases that nobody needs any more.
          expect(proposals).toBeLessThan(3.5)
          yield* until(Effect.map(counts.watchers, (count) => count === 0))
        }
        const [few, some, many] = ranges
        expect(some! / few!).toBeLessThan(1.3)
        expect(many! / few!).toBeLessThan(1.3)
      }),
    180_000
  )

  it.live("costs no more when permits change hands faster than requests are answered", () =>
    Effect.gen(function*() {
      const counts = yield* counted()
      const make = DistributedSemaphore.make("key", { limit: 3, ttl: "10 seconds" })
      const semaphore = yield* Effect.provide(make, counts.context)
      const handOffs = 50
      const worker = Effect.repeat(semaphore.withPermits(1)(Effect.sleep("5 millis")), { times: handOffs - 1 })
      const workers = 20
      const [txnsBefore, proposalsBefore] = [yield* counts.txns, yield* counts.proposals]
      const [duration] = yield* Effect.timed(
        Effect.timeout(Effect.all(Array.from({ length: workers }, () => worker), { concurrency: workers }), "2 minutes")
      )
      const all = workers * handOffs
      const txns = ((yield* counts.txns) - txnsBefore) / all
      const proposals = ((yield* counts.proposals) - proposalsBefore) / all
      console.log(
        `${workers} workers, 3 permits: ${txns} requests and ${proposals} raft writes per hand-off, ${duration}`
      )
      expect(txns).toBeLessThan(9)
      expect(proposals).toBeLessThan(5)
    }), 150_000)
})
