/** etcd: contenders that share a lease, renewals that a deposed leader answers, and leases that end too early. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import { EventEmitter } from "node:events"
import { stat } from "node:fs"
import { inject } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import * as KeepAlives from "../../src/backings/etcd/keepAlives.ts"
import { Leases } from "../../src/backings/etcd/leases.ts"
import type { Store } from "../../src/backings/etcd/store.ts"
import type { Waiting } from "../../src/core/Backing.ts"
import type { FencingToken } from "../../src/index.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { connect, leases as allLeases } from "../utils/etcd.ts"
import { acquired, before, freshKey, joins, leasesOf, minute, setting, withLeaseThatEnds } from "../utils/etcdRaces.ts"
import { until } from "../utils/until.ts"

/** Answers requests in `term`, and renewals in each of `terms`. After the last of them, the lease is gone. */
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

describe("a request on a lease that is used again", () => {
  const useAgain = (store: Store) => {
    const leases = new Leases(store)
    const put = leases.put(10, ["a"], () => ({}), () => "landed")
    return Effect.andThen(
      Effect.andThen(leases.put(10, ["a"], () => ({}), () => "landed"), Effect.sleep("2 millis")),
      put
    )
  }

  it.live("counts if the lease was renewed in the same term of the leader", () =>
    Effect.gen(function*() {
      const { left, store } = answering("1", 1n, 1n)
      expect(yield* useAgain(store)).toBe("landed")
      expect(left).toEqual([1n])
    }))

  it.live("leads to another renewal if the last one was in an earlier term", () =>
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
  it.live("share a lease while they are refreshed one by one at the same time, although one refresh is not answered", () =>
    Effect.gen(function*() {
      const { one } = yield* setting
      const slow = freshKey().padEnd(1000, "x")
      const keys = [slow, ...Array.from({ length: 99 }, freshKey)]
      yield* Effect.forEach(keys, (key) => one.backing.tryAcquire(key, "a", minute, 1, 1), { concurrency: 100 })
      const leases = Effect.forEach(keys, (key) => Effect.map(leasesOf(one.client, key), (all) => all.get("a")))
      const first = yield* leases
      const txn = one.client.kv.txn.bind(one.client.kv)
      // Requests about a key with such a long name share no call.
      one.client.kv.txn = (request, options) =>
        request.success?.some(({ request_range }) => request_range?.key?.includes(slow))
          ? new Promise(() => {})
          : txn(request, options)
      const refresh = (key: string) => Effect.timeoutOption(one.backing.refresh(key, "a", minute, 1, 1), "3 seconds")
      yield* Effect.sleep("300 millis")
      const [unanswered, ...answers] = yield* Effect.forEach(keys, refresh, { concurrency: 100 })
      expect(unanswered).toEqual(Option.none())
      for (const answer of answers) expect(Option.getOrThrow(answer)).toMatchObject(acquired)
      one.client.kv.txn = txn
      expect(yield* leases).toEqual(first)
    }))

  it.live("part for good from one that is refreshed at other times: it joins no lease that others keep", () =>
    Effect.gen(function*() {
      const { key, one } = yield* setting
      yield* Effect.forEach(["a", "b"], (id) => one.queues(id, 1, 4), { concurrency: 2 })
      yield* Effect.sleep("300 millis")
      yield* Effect.forEach(["c", "alone"], (id) => one.queues(id, 1, 4), { concurrency: 2 })
      const refresh = (...ids: ReadonlyArray<string>) =>
        one.backing.refreshAll!(ids.map((holderId) => ({ key, holderId, ttl: minute, limit: 4, permits: 1 })))
      const round = Effect.gen(function*() {
        yield* Effect.sleep("300 millis")
        yield* refresh("a", "b")
        yield* refresh("alone")
        return yield* leasesOf(one.client, key)
      })
      const first = yield* round
      expect(new Set(first.values()).size).toBe(3)
      expect(yield* round).toEqual(first)
      expect(yield* round).toEqual(first)
    }))

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
      // Each hold lasts as long as it was refreshed for.
      yield* Effect.sleep("1.2 seconds")
      yield* refresh("a", "b")
      expect(yield* leases).toEqual([a, b, c])
      const { holders } = yield* one.backing.inspect!(key)
      const left = new Map(holders.map(({ identifier, remaining }) => [identifier, Duration.toSeconds(remaining)]))
      expect(left.get("a")! - left.get("c")!).toBeGreaterThanOrEqual(1)
    }))
})

describe("a lease that ends between a put and its answer", () => {
  it.live("leaves no hold: the contender joins anew, on another lease", () =>
    Effect.gen(function*() {
      const { key, one, state } = yield* setting
      const ended = yield* withLeaseThatEnds(one)
      expect(yield* one.queues("a", 1, 1)).toMatchObject(acquired)
      expect((yield* leasesOf(one.client, key)).get("a")).not.toBe(ended)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("takes no contender with it that was on another lease before", () =>
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

describe("a lease from an earlier use, much of whose time is over", () => {
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

describe("a lease that ends, or whose keys are deleted, before its contenders are done", () => {
  it.live("if it is revoked by hand, ends each hold on it at the next refresh", () =>
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

  it.live("if it was not renewed in time, still notifies of grants until etcd ends it", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const heard = yield* one.listens
      let granted: FencingToken | undefined
      // etcd ends a lease half a second late at most, and may do so at once.
      for (let attempt = 0; granted === undefined && attempt < 10; attempt++) {
        yield* other.tries("holder", 1, 1)
        const place = yield* one.backing.tryAcquire(key, "a", Duration.seconds(2), 1, 1, { queue: true })
        yield* Effect.sleep("2010 millis")
        // Whatever is put on a lease next makes the process look through its leases.
        yield* one.backing.tryAcquire(freshKey(), "b", Duration.seconds(2), 1, 1)
        yield* other.releases("holder", 1)
        if ((yield* state).holders.length > 0) granted = (place as Waiting).fencingToken
      }
      expect(granted).toBeDefined()
      yield* until(Effect.sync(() => heard.includes(granted)))
    }))

  it.live("if its keys are deleted by hand, keeps nobody from acquiring anew", () =>
    Effect.gen(function*() {
      const { key, one } = yield* setting
      yield* one.queues("a", 1, 2)
      yield* Effect.promise(() => one.client.delete().prefix(`semaphore/${key}/`))
      expect(yield* one.refreshes("a")).toBe(false)
      expect(yield* one.releases("a", 1)).toBe(0)
      expect(yield* one.queues("a", 1, 2)).toMatchObject(acquired)
    }))
})

describe("a lease whose grant is not answered", () => {
  it.live("holds up no later contender, and is revoked when it is granted after all", () =>
    Effect.gen(function*() {
      const { one, state } = yield* setting
      const grant = one.client.leaseClient.leaseGrant.bind(one.client.leaseClient)
      const answers = yield* Deferred.make<void>()
      const asked: Array<string> = []
      one.client.leaseClient.leaseGrant = async (request, options) => {
        const isFirst = asked.push(String(request!.ID)) === 1
        const answer = await grant(request, options)
        if (isFirst) await Effect.runPromise(Deferred.await(answers))
        return answer
      }
      const isThere = Effect.map(allLeases(one.client), (all) => all.includes(asked[0]!))
      const acquiring = yield* Effect.forkScoped(one.queues("a", 1, 2), { startImmediately: true })
      yield* until(isThere)
      yield* Fiber.interrupt(acquiring)
      expect(yield* Effect.timeout(one.queues("b", 1, 2), "5 seconds")).toMatchObject(acquired)
      expect(asked).toHaveLength(2)
      yield* Deferred.succeed(answers, undefined)
      yield* until(Effect.map(isThere, (isThere) => !isThere))
      expect(yield* state).toEqual({ holders: ["b 1"], line: [] })
    }))
})

describe("a stream of renewals that is not answered", () => {
  it.live("is ended by the first caller that gives up, so that others try another one", () =>
    Effect.gen(function*() {
      let [opened, ended] = [0, 0]
      const stream = () => ({
        on: () => {},
        write: () => true,
        end: () => void ended++,
        cancel: () => {}
      })
      const keepAlives = KeepAlives.make(async () => {
        opened++
        return stream() as never
      })
      expect(yield* Effect.timeoutOption(keepAlives.renew("1"), "400 millis")).toEqual(Option.none())
      yield* Effect.yieldNow
      expect([opened, ended]).toEqual([1, 1])
    }))

  it.live("is read before it counts as silent, if the process was busy for long", () =>
    Effect.gen(function*() {
      let [opened, written] = [0, 0]
      const keepAlives = KeepAlives.make(async () => {
        opened++
        const stream = new EventEmitter()
        const write = ({ ID }: { readonly ID: string }) => {
          written++
          // The answer is there while the process is busy, and is read after its timers.
          stat(import.meta.filename, () => stream.emit("data", { ID, TTL: "60", header: { raft_term: "1" } }))
        }
        return Object.assign(stream, { write, end: () => {}, cancel: () => {} }) as never
      })
      const renewing = yield* Effect.forkScoped(keepAlives.renew("1"), { startImmediately: true })
      yield* Effect.promise(() => Promise.resolve())
      expect(written).toBe(1)
      const busyUntil = performance.now() + 1100
      while (performance.now() < busyUntil);
      expect(yield* Fiber.join(renewing)).toMatchObject({ term: 1n })
      expect(opened).toBe(1)
    }))

  it.live("is not opened again once the layer is closed", () =>
    Effect.gen(function*() {
      const client = yield* connect(inject("etcdUrl"))
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(EtcdBacking.layer(client), scope)
      const backing = Context.get(context, DistributedSemaphoreBacking)
      const key = freshKey()
      const tries = backing.tryAcquire(key, "a", minute, 1, 1)
      yield* tries
      yield* backing.release(key, "a", 1)
      const keepAlive = client.leaseClient.leaseKeepAlive.bind(client.leaseClient)
      let [opened, written] = [0, 0]
      client.leaseClient.leaseKeepAlive = async (options) => {
        opened++
        return Object.assign(await keepAlive(options), { write: () => ++written > 0 })
      }
      const acquiring = yield* Effect.forkScoped(Effect.exit(tries), { startImmediately: true })
      yield* until(Effect.sync(() => written > 0))
      yield* Scope.close(scope, Exit.void)
      yield* Effect.timeout(Fiber.join(acquiring), "5 seconds")
      expect(opened).toBe(1)
      yield* backing.release(key, "a", 1)
    }))
})
