/** etcd: requests that were given up, failed, or were repeated by the client, and that take effect late. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber } from "effect"
import { findsNoLease, keys, leases } from "../utils/etcd.ts"
import { acquired, before, delay, joins, leasesOf, leaves, minute, moves, repeat, setting } from "../utils/etcdRaces.ts"
import { until } from "../utils/until.ts"

describe("an acquire that is interrupted", () => {
  it.live("and takes effect after the release finds its lease gone", () =>
    Effect.gen(function*() {
      const { one, state } = yield* setting
      // Leaves a lease for reuse.
      yield* one.tries("first", 1, 1)
      yield* one.releases("first", 1)
      const [sent, isOnItsWay] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const wait = Effect.andThen(Deferred.succeed(isOnItsWay, undefined), Deferred.await(sent))
      const seen = before(one.client, joins("a"), wait)
      const acquiring = yield* Effect.forkScoped(one.tries("a", 1, 1), { startImmediately: true })
      yield* Deferred.await(isOnItsWay)
      yield* Fiber.interrupt(acquiring)
      expect(yield* one.releases("a", 1)).toBe(0)
      yield* findsNoLease(one.client, seen[0]!)
      yield* Deferred.succeed(sent, undefined)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))

  it.live("and shares its lease does not keep that lease alive: the others move to another one", () =>
    Effect.gen(function*() {
      const { key, one, state } = yield* setting
      const [sent, isOnItsWay] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const wait = Effect.andThen(Deferred.succeed(isOnItsWay, undefined), Deferred.await(sent))
      const seen = before(one.client, joins("a"), wait)
      // Both ask at the same time, so they share a lease.
      const acquiring = yield* Effect.forkScoped(one.queues("a", 1, 3), { startImmediately: true })
      yield* one.queues("first", 1, 3)
      yield* Deferred.await(isOnItsWay)
      const lease = (yield* leasesOf(one.client, key)).get("first")
      expect(JSON.stringify(seen)).toContain(lease)
      yield* Fiber.interrupt(acquiring)
      expect(yield* one.releases("a", 1)).toBe(0)
      expect(yield* one.refreshes("first")).toMatchObject(acquired)
      expect((yield* leasesOf(one.client, key)).get("first")).not.toBe(lease)
      expect(yield* state).toEqual({ holders: ["first 1"], line: [] })
      // Now only the acquire that was given up uses the lease: nobody renews it.
      yield* until(Effect.map(leases(one.client), (all) => !all.includes(lease!)))
      yield* findsNoLease(one.client, seen[0]!)
      yield* Deferred.succeed(sent, undefined)
    }))

  it.live("and shares its lease is released as soon as it takes effect late", () =>
    Effect.gen(function*() {
      const { one, state } = yield* setting
      const [sent, isOnItsWay] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const wait = Effect.andThen(Deferred.succeed(isOnItsWay, undefined), Deferred.await(sent))
      before(one.client, joins("a"), wait)
      const txn = one.client.kv.txn
      let arrived = 0
      one.client.kv.txn = async (request, options) => {
        const answer = await txn(request, options)
        if (joins("a")(request) && answer.succeeded) arrived++
        return answer
      }
      const acquiring = yield* Effect.forkScoped(one.queues("a", 1, 3), { startImmediately: true })
      yield* one.queues("first", 1, 3)
      yield* Deferred.await(isOnItsWay)
      yield* Fiber.interrupt(acquiring)
      expect(yield* one.releases("a", 1)).toBe(0)
      yield* Deferred.succeed(sent, undefined)
      yield* until(Effect.sync(() => arrived === 1))
      yield* until(Effect.map(state, ({ holders }) => holders.join() === "first 1"))
      expect(yield* one.refreshes("first")).toMatchObject(acquired)
      expect(yield* one.queues("a", 1, 3)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["first 1", "a 1"], line: [] })
    }))
})

describe("an acquire that the client repeats, and that is refused", () => {
  it.live("finds its lease gone when it takes effect late", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const seen = repeat(one.client, joins("a"), Effect.void)
      yield* other.tries("holder", 1, 1)
      expect(yield* one.tries("a", 1, 1)).toBe(false)
      yield* other.releases("holder", 1)
      yield* findsNoLease(other.client, seen[0]!)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("an acquire that the client repeats, and that succeeds", () => {
  it.live("finds its lease gone when it takes effect again after the release", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const seen = repeat(one.client, joins("a"), Effect.void)
      expect(yield* one.tries("a", 1, 1)).toMatchObject(acquired)
      expect(yield* one.releases("a", 1)).toBe(1)
      yield* findsNoLease(other.client, seen[0]!)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("a refresh that finds nothing after an acquire that failed", () => {
  it.live("leaves no lease on which the acquire could take effect late", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const seen = delay(one.client, joins("a"))
      yield* Effect.flip(one.tries("a", 1, 1))
      expect(yield* one.refreshes("a")).toBe(false)
      yield* findsNoLease(other.client, seen[0]!)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("a contender that acquires again after a release that failed", () => {
  it.live("keeps its hold when that release takes effect late", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const first = yield* one.tries("a", 1, 1)
      const seen = delay(one.client, leaves("a"))
      yield* Effect.flip(one.releases("a", 1))
      expect(yield* one.tries("a", 1, 1)).toEqual(first)
      expect((yield* Effect.promise(() => other.client.kv.txn(seen[0]!))).succeeded).toBe(false)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("keeps its hold when the lease of its first hold is revoked late", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      repeat(one.client, joins("a"), Effect.void)
      yield* one.tries("a", 1, 1)
      const revoked: Array<string> = []
      const { leaseRevoke } = one.client.leaseClient
      one.client.leaseClient.leaseRevoke = async ({ ID }) => {
        revoked.push(String(ID))
        throw new Error("no reply")
      }
      yield* Effect.flip(one.releases("a", 1))
      one.client.leaseClient.leaseRevoke = leaseRevoke
      expect(yield* one.tries("a", 1, 1)).toMatchObject(acquired)
      expect(revoked).toHaveLength(1)
      yield* Effect.promise(() => other.client.leaseClient.leaseRevoke({ ID: revoked[0]! }))
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))
})

describe("a refresh", () => {
  it.live("that moves the hold to another lease late does not bring back a hold that was released meanwhile", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* one.tries("a", 1, 1)
      const seen = delay(other.client, moves("a"))
      yield* Effect.flip(other.refreshes("a"))
      yield* one.releases("a", 1)
      const { responses } = yield* Effect.promise(() => one.client.kv.txn(seen[0]!))
      expect(responses[0]!.response_txn.succeeded).toBe(false)
      expect((yield* keys(one.client)).filter((name) => name.includes(key))).toEqual([])
    }))

  it.live("from another process that takes long does not shorten a hold that was refreshed meanwhile", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* one.tries("a", 1, 1)
      before(other.client, moves("a"), Effect.andThen(Effect.sleep("3 seconds"), one.refreshes("a")))
      expect(yield* other.refreshes("a")).toMatchObject(acquired)
      const { holders: [hold] } = yield* one.backing.inspect!(key)
      expect(Duration.toSeconds(hold!.remaining)).toBeGreaterThan(57)
    }))

  it.live("from another process resurrects no hold that is released first", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* one.tries("a", 1, 1)
      const seen = before(other.client, moves("a"), one.releases("a", 1))
      expect(yield* other.refreshes("a")).toBe(false)
      expect(seen).toHaveLength(1)
      expect((yield* keys(one.client)).filter((name) => name.includes(key))).toEqual([])
    }))
})

describe("a release", () => {
  it.live("whose answer is lost leaves its lease for reuse", () =>
    Effect.gen(function*() {
      const { key, one } = yield* setting
      yield* one.tries("a", 1, 1)
      const lease = (yield* leasesOf(one.client, key)).get("a")
      const txn = one.client.kv.txn.bind(one.client.kv)
      one.client.kv.txn = async (request, options) => {
        const answer = await txn(request, options)
        if (leaves("a")(request)) throw new Error("no reply")
        return answer
      }
      yield* Effect.flip(one.releases("a", 1))
      expect(yield* one.releases("a", 1)).toBe(0)
      // Contenders that join within a short time share a lease anyway. These two do not.
      yield* Effect.sleep("300 millis")
      yield* one.tries("b", 1, 1)
      expect((yield* leasesOf(one.client, key)).get("b")).toBe(lease)
    }))

  it.live("that takes effect again later frees no hold that was acquired since", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 1, 1)
      const seen = before(one.client, leaves("a"), Effect.void)
      expect(yield* one.releases("a", 1)).toBe(1)
      yield* other.tries("a", 1, 1)
      expect((yield* Effect.promise(() => other.client.kv.txn(seen[0]!))).succeeded).toBe(false)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("of a place that takes effect again later does not end the next place of that identifier", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      yield* one.queues("a", 1, 1)
      const seen = before(one.client, leaves("a"), Effect.void)
      expect(yield* one.releases("a", 1)).toBe(0)
      yield* other.queues("a", 1, 1)
      expect((yield* Effect.promise(() => other.client.kv.txn(seen[0]!))).succeeded).toBe(false)
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 1"] })
    }))

  it.live("of a place that is granted before the release takes effect frees its permits", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 3)
      yield* one.queues("a", 2, 3)
      yield* other.queues("b", 1, 3)
      before(one.client, leaves("a"), other.releases("holder", 3))
      expect(yield* one.releases("a", 2)).toBe(2)
      expect(yield* state).toEqual({ holders: ["b 1"], line: [] })
    }))

  it.live("of some permits of a place that is granted before the release takes effect frees only those", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 4)
      yield* one.queues("a", 4, 4)
      yield* other.queues("b", 2, 4)
      before(one.client, leaves("a"), other.releases("holder", 3))
      expect(yield* one.releases("a", 1)).toBe(1)
      expect(yield* state).toEqual({ holders: ["a 3"], line: ["b 2"] })
    }))

  it.live("of some permits that is repeated after it took effect frees them once", () =>
    Effect.gen(function*() {
      const { one, state } = yield* setting
      yield* one.tries("a", 3, 3)
      repeat(one.client, leaves("a"), Effect.void)
      expect(yield* one.releases("a", 1)).toBe(1)
      expect(yield* state).toEqual({ holders: ["a 2"], line: [] })
      expect(yield* one.releases("a", 2)).toBe(2)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))

  it.live("that is repeated after it took effect frees no hold that another process acquired since", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 2, 3)
      repeat(one.client, leaves("a"), other.tries("a", 2, 3))
      expect(yield* one.releases("a", 2)).toBe(2)
      expect(yield* state).toEqual({ holders: ["a 2"], line: [] })
    }))

  it.live("of a place that is repeated after it took effect does not end the new place of another process", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 3)
      yield* one.queues("a", 1, 3)
      repeat(one.client, leaves("a"), other.queues("a", 1, 3))
      expect(yield* one.releases("a", 1)).toBe(0)
      expect(yield* state).toEqual({ holders: ["holder 3"], line: ["a 1"] })
    }))

  it.live("that etcd refuses at first, because another process has refreshed the hold, frees it when it is repeated", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* one.tries("a", 2, 3)
      yield* other.backing.refresh(key, "a", minute, 3, 2)
      repeat(one.client, leaves("a"), Effect.void)
      expect(yield* one.releases("a", 2)).toBe(2)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))

  it.live("that etcd refuses at first, because another process has released some permits, frees the rest", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 3, 3)
      yield* other.releases("a", 1)
      repeat(one.client, leaves("a"), Effect.void)
      expect(yield* one.releases("a", 3)).toBe(2)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))

  it.live("frees the permits that are left when another process releases some just before it", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 3, 3)
      before(one.client, leaves("a"), other.releases("a", 2))
      expect(yield* one.releases("a", 3)).toBe(1)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})
