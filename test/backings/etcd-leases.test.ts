/** etcd: who shares a lease, renewals that a deposed leader answers, and leases that end too early. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { Leases } from "../../src/backings/etcd/leases.ts"
import type { Store } from "../../src/backings/etcd/store.ts"
import { leases as allLeases } from "../utils/etcd.ts"
import { acquired, before, freshKey, joins, leasesOf, minute, setting, withLeaseThatEnds } from "../utils/etcdRaces.ts"
import { until } from "../utils/until.ts"

/** Answers renewals in these terms, one after the other; then there is no such lease. Requests are answered in a term, too. */
const answering = (term: string, ...terms: ReadonlyArray<bigint>) => {
  const left = [...terms]
  const store = {
    txn: () => Effect.succeed({ header: { raft_term: term } }),
    grant: () => Effect.sync(() => ({ sent: performance.now(), term: 1n })),
    revoke: () => Effect.void,
    keepAlives: {
      renew: () => Effect.sync(() => left.length > 0 ? { sent: performance.now(), term: left.shift()! } : undefined),
      reset: () => {}
    }
  }
  return { left, store: store as unknown as Store }
}

describe("a request on a lease that is in use again", () => {
  const useAgain = (store: Store) => {
    const leases = new Leases(store)
    const put = leases.put(10, ["a"], () => ({}), () => "landed")
    return Effect.andThen(
      Effect.andThen(leases.put(10, ["a"], () => ({}), () => "landed"), Effect.sleep("2 millis")),
      put
    )
  }

  it.live("counts if it was renewed in the same term", () =>
    Effect.gen(function*() {
      const { left, store } = answering("1", 1n, 1n)
      expect(yield* useAgain(store)).toBe("landed")
      expect(left).toEqual([1n])
    }))

  it.live("is renewed once more if that was in an earlier term", () =>
    Effect.gen(function*() {
      const { left, store } = answering("5", 5n, 4n, 4n, 5n, 5n)
      expect(yield* useAgain(store)).toBe("landed")
      expect(left).toEqual([5n])
    }))

  it.live("does not count if the leader of this term knows no such lease", () =>
    Effect.gen(function*() {
      const { store } = answering("5", 5n, 4n)
      expect(yield* useAgain(store)).toBeUndefined()
    }))
})

describe("contenders that joined at the same time", () => {
  it.live("share a lease while they are refreshed together, and part when one is not", () =>
    Effect.gen(function*() {
      const { key, one } = yield* setting
      const ids = ["a", "b", "c"]
      yield* Effect.forEach(ids, (id) => one.queues(id, 1, 3), { concurrency: 3 })
      const leases = Effect.map(leasesOf(one.client, key), (all) => ids.map((id) => all.get(id)!))
      const first = yield* leases
      expect(new Set(first).size).toBe(1)
      const refresh = (...ids: ReadonlyArray<string>) =>
        one.backing.refreshAll!(ids.map((holderId) => ({ key, holderId, ttl: minute, limit: 3, permits: 1 })))
      yield* Effect.sleep("300 millis")
      yield* refresh(...ids)
      expect(yield* leases).toEqual(first)
      yield* Effect.sleep("300 millis")
      yield* refresh("a", "b")
      const [a, b, c] = yield* leases
      expect([b, c]).toEqual([a, first[0]])
      expect(a).not.toBe(c)
      // Each lasts as long as it was refreshed for.
      yield* Effect.sleep("1.2 seconds")
      yield* refresh("a", "b")
      expect(yield* leases).toEqual([a, b, c])
      const { holders } = yield* one.backing.inspect!(key)
      const left = new Map(holders.map(({ identifier, remaining }) => [identifier, Duration.toSeconds(remaining)]))
      expect(left.get("a")! - left.get("c")!).toBeGreaterThanOrEqual(1)
    }))
})

describe("a lease that ends between a put and its answer", () => {
  it.live("is no hold: the contender joins anew, on another", () =>
    Effect.gen(function*() {
      const { key, one, state } = yield* setting
      const ended = yield* withLeaseThatEnds(one)
      expect(yield* one.queues("a", 1, 1)).toMatchObject(acquired)
      expect((yield* leasesOf(one.client, key)).get("a")).not.toBe(ended)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("takes nothing with it that was somewhere else before", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const ids = ["a", "b"]
      yield* Effect.forEach(ids, (id) => other.queues(id, 1, 1))
      const tokens = Effect.map(one.backing.inspect!(key), ({ holders, line }) =>
        [...holders, ...line].map(({ fencingToken }) => fencingToken))
      const first = yield* tokens
      yield* withLeaseThatEnds(one)
      for (const id of ids) {
        expect(yield* one.refreshes(id)).not.toBe(false)
      }
      expect(yield* tokens).toEqual(first)
      expect(yield* state).toEqual({ holders: ["a 1"], line: ["b 1"] })
    }))
})

describe("a lease from an earlier use, of whose time much is over", () => {
  it.live("is renewed before anything is put on it", () =>
    Effect.gen(function*() {
      const { one, state, key } = yield* setting
      const ttl = Duration.seconds(2)
      const unused = freshKey()
      yield* one.backing.tryAcquire(unused, "b", ttl, 1, 1)
      const ID = (yield* leasesOf(one.client, unused)).get("b")!
      yield* one.backing.release(unused, "b", 1)
      yield* Effect.promise(() => one.client.leaseClient.leaseRevoke({ ID }))
      yield* Effect.sleep("1.1 seconds")
      const seen = before(one.client, joins("a"), Effect.void)
      expect(yield* one.backing.tryAcquire(key, "a", ttl, 1, 1)).toMatchObject(acquired)
      expect(seen).toHaveLength(1)
      expect(JSON.stringify(seen)).not.toContain(ID)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))
})

describe("a lease that somebody revokes", () => {
  it.live("is gone for each of those on it, at their next refresh", () =>
    Effect.gen(function*() {
      const { key, one, state } = yield* setting
      yield* Effect.forEach(["a", "b"], (id) => one.queues(id, 1, 2), { concurrency: 2 })
      const [ID] = (yield* leasesOf(one.client, key)).values()
      yield* Effect.promise(() => one.client.leaseClient.leaseRevoke({ ID: ID! }))
      const answers = yield* one.backing.refreshAll!(
        ["a", "b"].map((holderId) => ({ key, holderId, ttl: minute, limit: 2, permits: 1 }))
      )
      expect(answers).toEqual([false, false])
      expect(yield* state).toEqual({ holders: [], line: [] })
      expect(yield* one.queues("a", 1, 2)).toMatchObject(acquired)
    }))

  it.live("of keys that are deleted by hand, is used again", () =>
    Effect.gen(function*() {
      const { key, one } = yield* setting
      yield* one.queues("a", 1, 2)
      yield* Effect.promise(() => one.client.delete().prefix(`semaphore/${key}/`))
      expect(yield* one.refreshes("a")).toBe(false)
      expect(yield* one.releases("a", 1)).toBe(0)
      expect(yield* one.queues("a", 1, 2)).toMatchObject(acquired)
      yield* until(Effect.map(allLeases(one.client), (all) => all.length > 0))
    }))
})
