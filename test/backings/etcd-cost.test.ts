/** What operations cost etcd, counted by its own metrics. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
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
