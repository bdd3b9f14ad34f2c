/** etcd: what another process does just before a contender joins the line, or asks again. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import type { Acquired, Waiting } from "../../src/core/Backing.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { connect, server } from "../utils/etcd.ts"
import { acquired, before, joins, leasesOf, minute, reads, setting, sum } from "../utils/etcdRaces.ts"
import { until } from "../utils/until.ts"

describe("a contender that is about to acquire without queue", () => {
  it.live("does not exceed the limit when another acquires first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const seen = before(one.client, joins("a"), other.tries("b", 2, 3))
      expect(yield* one.tries("a", 2, 3)).toBe(false)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["b 2"], line: [] })
    }))

  it.live("does not overtake a waiter that joins the line first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 3)
      before(one.client, joins("a"), other.queues("b", 3, 3))
      expect(yield* one.tries("a", 1, 3)).toBe(false)
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["b 3"] })
    }))

  it.live("acquires at the first attempt when others only leave", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 3)
      yield* one.listens
      const seen = before(one.client, joins("a"), other.releases("holder", 1))
      expect(yield* one.tries("a", 1, 3)).toMatchObject(acquired)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))
})

describe("a contender that is about to join the line", () => {
  it.live("holds at once when the way becomes free first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      const seen = before(one.client, joins("a"), other.releases("holder", 1))
      expect(yield* one.queues("a", 1, 1)).toMatchObject(acquired)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("has the place that another process takes under its identifier first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      before(one.client, joins("a"), Effect.all([other.queues("a", 1, 1), other.queues("b", 1, 1)]))
      expect(yield* one.queues("a", 1, 1)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 1", "b 1"] })
    }))

  it.live("waits as its smaller limit says, although another process acquires under its identifier first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 2)
      before(one.client, joins("a"), other.tries("a", 2, 3))
      expect(yield* one.queues("a", 2, 2)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 2"] })
    }))

  it.live("joins the line, although the hold that it gives up for another number of permits ends first", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* one.tries("a", 1, 3)
      yield* other.tries("b", 2, 3)
      const ID = (yield* leasesOf(one.client, key)).get("a")!
      before(one.client, joins("a"), Effect.promise(() => other.client.leaseClient.leaseRevoke({ ID })))
      expect(yield* one.queues("a", 2, 3)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["b 2"], line: ["a 2"] })
    }))

  it.live.each([130, 17])(
    "waits behind %d holders, and holds when enough of them have left",
    (limit) =>
      Effect.gen(function*() {
        const { one, other, state } = yield* setting
        const holders = Array.from({ length: limit }, (_, index) => `holder ${index}`)
        yield* Effect.forEach(holders, (id) => other.tries(id, 1, limit), { concurrency: 8 })
        expect(yield* one.queues("a", 2, limit)).toMatchObject({ _tag: "Waiting", position: 0 })
        yield* other.releases("holder 0", 1)
        expect((yield* state).line).toEqual(["a 2"])
        yield* other.releases("holder 1", 1)
        expect(yield* one.queues("a", 2, limit)).toMatchObject(acquired)
        expect((yield* state).holders).toHaveLength(limit - 1)
      })
  )
})

describe("a refused request for another number of permits", () => {
  it.live.each([3, 4])("(%d of 4) does not extend the hold", (permits) =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* one.tries("a", 2, 4)
      yield* other.tries("b", 2, 4)
      const remaining = Effect.map(one.backing.inspect!(key), ({ holders }) =>
        Duration.toMillis(holders.find(({ identifier }) => identifier === "a")!.remaining))
      const first = yield* remaining
      yield* until(Effect.map(remaining, (now) =>
        now < first - 1000))
      expect(yield* one.tries("a", permits, 4)).toBe(false)
      expect(yield* remaining).toBeLessThan(first)
      expect(yield* state).toEqual({ holders: ["a 2", "b 2"], line: [] })
    }))

  it.live("that seemed to fit does not lose the notification of the place", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("holder", 1, 4)
      const heard = yield* one.listens
      const place = yield* one.queues("a", 4, 4)
      before(one.client, joins("a"), other.queues("b", 3, 4))
      expect(yield* one.tries("a", 1, 4)).toBe(false)
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 4", "b 3"] })
      yield* other.releases("holder", 1)
      yield* until(Effect.sync(() => heard.length > 0))
      expect(heard).toEqual([(place as Waiting).fencingToken])
    }))
})

describe("a request with a smaller limit", () => {
  it.live("takes no hold away from earlier holders, as all processes see it", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* one.tries("a", 2, 4)
      yield* one.tries("b", 2, 4)
      expect(yield* other.tries("a", 2, 2)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["a 2", "b 2"], line: [] })
      // The value of `a` says up to whom all held then. It still does when a release writes it again.
      yield* one.releases("a", 1)
      expect(yield* other.backing.refresh(key, "b", minute, 4, 2)).toMatchObject(acquired)
      expect(yield* other.tries("c", 1, 4)).toBe(false)
      expect(yield* state).toEqual({ holders: ["a 1", "b 2"], line: [] })
    }))
})

describe("foreign keys of etcd among those of a semaphore", () => {
  it.live("hinder nobody", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const heard = yield* one.listens
      yield* other.tries("holder", 1, 1)
      const place = yield* one.queues("a", 1, 1)
      const names = ["C:\\x/a", "b", "b/c", "d/a", "e/a/a", "/a", "else"]
      const folder = `semaphore/${key}/`
      yield* Effect.forEach(names, (name) => Effect.promise(() => other.client.put(folder + name).value("by hand")))
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 1"] })
      expect(yield* one.queues("a", 1, 1)).toMatchObject({ _tag: "Waiting", position: 0 })
      yield* other.releases("holder", 1)
      yield* until(Effect.sync(() => heard.length === 1))
      expect(place).toMatchObject({ fencingToken: heard[0] })
      yield* Effect.promise(() => other.client.delete().prefix(folder))
      expect(yield* one.tries("b", 1, 1)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["b 1"], line: [] })
    }))
})

describe("the largest limit that there is", () => {
  it.live("works, and so do as many permits", () =>
    Effect.gen(function*() {
      const { one, state } = yield* setting
      const all = Number.MAX_SAFE_INTEGER
      expect(yield* Effect.timeout(one.queues("a", all, all), "10 seconds")).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: [`a ${all}`], line: [] })
    }))
})

describe("a line of more bytes than the client accepts in one answer", () => {
  it.live("is read in parts", () =>
    Effect.gen(function*() {
      const client = yield* connect((yield* server).url)
      const { getCount, tryAcquire } = Context.get(
        yield* Layer.build(EtcdBacking.layer(client)),
        DistributedSemaphoreBacking
      )
      const name = (number: number) => `semaphore/key/${String(number).padStart(10_000, "x")}/a`
      for (let from = 0; from < 450; from += 90) {
        const success = Array.from({ length: 90 }, (_, index) => ({
          request_put: { key: Buffer.from(name(from + index)), value: Buffer.from("1 60 1000 0 somebody") }
        }))
        yield* Effect.promise(() => client.kv.txn({ success }))
      }
      expect(yield* getCount("key", minute)).toBe(450)
      // If the watch does not stand within a second, the first answer is that it waits.
      yield* tryAcquire("key", "a", minute, 1000, 1, { queue: true })
      expect(yield* tryAcquire("key", "a", minute, 1000, 1, { queue: true })).toMatchObject(acquired)
      expect(yield* getCount("key", minute)).toBe(451)
    }))
})

describe("a holder in a line that is too long to be read at once", () => {
  it.live("is refreshed without the rest of the line, as long as its process has no waiters", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const [first, second] = [yield* one.tries("a", 1, 2), yield* one.tries("b", 1, 2)]
      const refreshes = (id: string, hold: unknown) => one.backing.refresh(key, id, minute, 1, 1, hold as Acquired)
      const waiters = Array.from({ length: 40 }, (_, index) => `waiter ${index}`)
      yield* Effect.forEach(waiters, (id) => other.queues(id, 1, 2))
      const read = reads(one.client)
      expect(yield* refreshes("a", first)).toEqual(first)
      expect(sum(read)).toBeLessThan(20)
      yield* other.releases("a", 1)
      expect(yield* refreshes("a", first)).toBe(false)
      expect(yield* refreshes("b", second)).toMatchObject(acquired)
      expect(yield* one.refreshes("waiter 1")).toMatchObject({ _tag: "Waiting", position: 0 })
      expect((yield* state).holders).toEqual(["b 1", "waiter 0 1"])
    }))

  it.live("is refreshed without a token as what its identifier has now: another process's place, or other hold", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 2, 4)
      yield* one.tries("b", 2, 4)
      expect(yield* other.tries("b", 1, 4)).toMatchObject(acquired)
      const waiters = Array.from({ length: 20 }, (_, index) => `waiter ${index}`)
      yield* Effect.forEach(waiters, (id) => other.queues(id, 2, 4))
      expect(yield* one.refreshes("b")).toMatchObject(acquired)
      yield* other.releases("a", 2)
      yield* other.queues("a", 2, 4)
      expect(yield* one.refreshes("a")).toMatchObject({ _tag: "Waiting", position: 19 })
      expect((yield* state).holders).toEqual(["b 1", "waiter 0 2"])
    }))
})
