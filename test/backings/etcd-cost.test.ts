/** What operations cost etcd, counted by its own metrics. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import { counted, growth, holds } from "../utils/etcdCounted.ts"
import { until } from "../utils/until.ts"

const cycles = 100

describe("in the steady state", () => {
  it.live("an uncontended cycle costs two raft writes and three messages", () =>
    Effect.gen(function*() {
      const { context, proposals, requests } = yield* counted()
      const mutex = yield* Effect.provide(DistributedSemaphore.make("key"), context)
      const cycle = mutex.withPermits(1)(Effect.void)
      yield* cycle
      const many = Effect.repeat(cycle, { times: cycles - 1 })
      expect(yield* growth(proposals, many)).toBe(2 * cycles)
      expect(yield* growth(requests, many)).toBe(3 * cycles)
    }))

  it.live("cycles of 64 callers on 64 keys share calls and raft writes", () =>
    Effect.gen(function*() {
      const { context, proposals, txns } = yield* counted()
      const semaphores = yield* Effect.forEach(
        Array.from({ length: 64 }),
        (_, index) => Effect.provide(DistributedSemaphore.make(`key ${index}`), context)
      )
      const each = 40
      const many = Effect.forEach(
        semaphores,
        (semaphore) => Effect.repeat(semaphore.withPermits(1)(Effect.void), { times: each - 1 }),
        { concurrency: 64 }
      )
      const before = yield* txns
      const written = yield* growth(proposals, many)
      const asked = (yield* txns) - before
      console.log(`${asked / each / 64} calls and ${written / each / 64} raft writes a cycle`)
      expect(asked).toBeLessThan(each * 64 / 2)
      expect(written).toBeLessThan(each * 64 / 2)
    }))

  it.live("a cycle beside other holders, without queue or with, costs two raft writes", () =>
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
      expect(yield* growth(txns, many)).toBe(2 * cycles)
      const tries = Effect.repeat(Effect.scoped(semaphore.tryTake(2)), { times: cycles - 1 })
      expect(yield* growth(proposals, tries)).toBe(2 * cycles)
    }))

  it.live.each([1, 2])(
    "a tryTake of %d of 2 permits that is refused writes nothing",
    (permits) =>
      Effect.gen(function*() {
        const { contexts: [first, second], proposals } = yield* counted(2)
        const make = DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
        yield* Effect.flatMap(Effect.provide(make, second!), (semaphore) => semaphore.take(2))
        const semaphore = yield* Effect.provide(make, first!)
        const refused = Effect.scoped(semaphore.tryTake(permits))
        yield* refused
        expect(yield* growth(proposals, Effect.repeat(refused, { times: cycles - 1 }))).toBe(0)
      })
  )

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

describe("acquisitions of one key", () => {
  it.live("cost as many raft writes and requests beside a thousand holders as beside ten", () =>
    Effect.gen(function*() {
      const counts = yield* counted()
      const scope = yield* Effect.scope
      const make = DistributedSemaphore.make("key", { limit: 1001, ttl: "10 minutes" })
      const semaphore = yield* Effect.provide(make, counts.context)
      const cost = Effect.gen(function*() {
        const many = Effect.repeat(semaphore.withPermits(1)(Effect.void), { times: cycles - 1 })
        yield* many
        const [txns, proposals] = [yield* counts.txns, yield* counts.proposals]
        yield* many
        return [((yield* counts.txns) - txns) / cycles, ((yield* counts.proposals) - proposals) / cycles]
      })
      yield* holds(Array.from({ length: 10 }, () => semaphore), scope)
      expect(yield* cost).toEqual([2, 2])
      yield* holds(Array.from({ length: 990 }, () => semaphore), scope)
      const [txns, proposals] = yield* cost
      // The first acquisition beside so many looks at all of them, on behalf of the others.
      expect(txns).toBeLessThan(2.1)
      expect(proposals).toBe(2)
    }))
})

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
          // One release is the holder's. The first in line looks once a second, and may then move to its own lease.
          expect(proposals).toBeLessThanOrEqual(1 + (2 + Duration.toSeconds(duration)) / size)
          expect(requests).toBeLessThan(1.5)
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
    "costs two raft writes, with the joining of the line, if all workers ask again at once",
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
