/** etcd: txns that share a call. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import type { ITxnRequest } from "etcd3"
import { acquired, leasesOf, minute, setting } from "../utils/etcdRaces.ts"

/** Returns the txns that a process sends from now on. */
const sent = (client: Effect.Success<typeof setting>["one"]["client"]) => {
  const requests: Array<ITxnRequest> = []
  const txn = client.kv.txn.bind(client.kv)
  client.kv.txn = (request, options) => {
    requests.push(request)
    return txn(request, options)
  }
  return requests
}

const all = { concurrency: "unbounded" } as const

describe("acquires of many semaphores at once", () => {
  it.live("take few calls, and so do their releases", () =>
    Effect.gen(function*() {
      const { key, one: { backing, client } } = yield* setting
      const requests = sent(client)
      const keys = Array.from({ length: 64 }, (_, index) => `${key}-${index}`)
      const answers = yield* Effect.forEach(
        keys,
        (key) => backing.tryAcquire(key, "a", minute, 1, 1, { queue: true }),
        all
      )
      for (const answer of answers) expect(answer).toMatchObject(acquired)
      expect(requests).toHaveLength(4)
      const released = yield* Effect.forEach(keys, (key) => backing.release(key, "a", 1), all)
      expect(new Set(released)).toEqual(new Set([1]))
      expect(requests).toHaveLength(8)
    }))

  it.live("with names too long for one call succeed all the same", () =>
    Effect.gen(function*() {
      const { key, one: { backing } } = yield* setting
      for (const length of [30_000, 100_000]) {
        const keys = Array.from({ length: 16 }, (_, index) => `${key}-${index}-${"x".repeat(length)}`)
        const answers = yield* Effect.forEach(keys, (key) => backing.tryAcquire(key, "a", minute, 1, 1), all)
        for (const answer of answers) expect(answer).toMatchObject(acquired)
        yield* Effect.forEach(keys, (key) => backing.release(key, "a", 1), all)
      }
    }))

  it.live("on leases of which one is gone succeed all the same", () =>
    Effect.gen(function*() {
      const { key, one: { backing, client }, other } = yield* setting
      const ttls = [minute, "1 hour"] as const
      const ask = (index: number) => backing.tryAcquire(`${key}-${index}`, "a", ttlOf(index), 1, 1, { queue: true })
      const ttlOf = (index: number) => Duration.fromInputUnsafe(ttls[index % 2]!)
      yield* Effect.forEach([0, 1], ask, all)
      const requests = sent(client)
      const lease = (yield* leasesOf(client, `${key}-0`)).get("a")!
      yield* Effect.forEach([0, 1], (index) => backing.release(`${key}-${index}`, "a", 1), all)
      yield* Effect.promise(() => other.client.leaseClient.leaseRevoke({ ID: lease }))
      const answers = yield* Effect.forEach([2, 3, 4, 5], ask, all)
      for (const answer of answers) expect(answer).toMatchObject(acquired)
      expect(JSON.stringify(requests)).toContain(lease)
    }))
})

describe("acquires of one semaphore at once", () => {
  it.live("share no call, so that each has a place of its own", () =>
    Effect.gen(function*() {
      const { key, one: { backing, client } } = yield* setting
      const requests = sent(client)
      const answers = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, index) => `${index}`),
        (id) => backing.tryAcquire(key, id, minute, 40, 1, { queue: true }),
        all
      )
      expect(new Set(answers.map((answer) => typeof answer === "object" && answer.fencingToken)).size).toBe(40)
      expect(requests.filter(({ success }) => success?.some(({ request_txn }) => request_txn))).toEqual([])
    }))
})

describe("a release and an acquire of one semaphore at once", () => {
  it.live("share a call, and the acquire sees the release", () =>
    Effect.gen(function*() {
      const { one: { client, queues, releases }, state } = yield* setting
      yield* queues("a", 1, 1)
      const requests = sent(client)
      // The acquire is asked for first.
      const both = yield* Effect.all([queues("b", 1, 1), releases("a", 1)], all)
      expect(both).toMatchObject([acquired, 1])
      expect(requests).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["b 1"], line: [] })
    }))

  it.live("share none if they are one contender's: etcd takes no call that deletes and puts a key", () =>
    Effect.gen(function*() {
      const { one: { client, queues, releases }, state } = yield* setting
      yield* queues("a", 1, 1)
      const requests = sent(client)
      expect(yield* Effect.all([releases("a", 1), queues("a", 1, 1)], all)).toMatchObject([1, acquired])
      expect(requests.length).toBeGreaterThan(1)
      yield* releases("a", 1)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("a release of a part of a place", () => {
  it.live("shares no call with the release that grants the place: it would not know that", () =>
    Effect.gen(function*() {
      const { one: { client, queues, releases }, state } = yield* setting
      yield* queues("holder", 1, 3)
      yield* queues("waiter", 3, 3)
      const txn = client.kv.txn.bind(client.kv)
      let ofHolder: Promise<number> | undefined
      client.kv.txn = async (request, options) => {
        const answer = await txn(request, options)
        // The release of the waiter has looked, and is about to send its request.
        ofHolder ??= Effect.runPromise(releases("holder", 1))
        return answer
      }
      const freed = yield* releases("waiter", 1)
      expect(yield* Effect.promise(() => ofHolder!)).toBe(1)
      expect([freed, yield* state]).toEqual(
        freed === 0 ? [0, { holders: [], line: [] }] : [1, { holders: ["waiter 2"], line: [] }]
      )
    }))
})
