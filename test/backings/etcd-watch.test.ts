/** etcd: a process that sees late what happens, or all at once. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, Schedule } from "effect"
import type { Etcd3, IWatchResponse } from "etcd3"
import { inject } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import type { Waiting } from "../../src/core/Backing.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { connect } from "../utils/etcd.ts"
import { acquired, before, freshKey, joins, minute, moves, reads, setting, sum } from "../utils/etcdRaces.ts"
import { until } from "../utils/until.ts"

type Listener = (response: IWatchResponse) => void

/** Returns an effect that keeps all further events from the watches that a process has when it runs. */
const keepBack = (client: Etcd3) => {
  let watches = 0
  let stopped = 0
  const watch = client.watchClient.watch.bind(client.watchClient)
  client.watchClient.watch = async (options) => {
    const stream = await watch(options)
    const on = stream.on.bind(stream) as (event: string, listener: Listener) => unknown
    const number = ++watches
    return Object.assign(stream, {
      on: (event: string, listener: Listener) =>
        on(event, (value) => {
          if (event !== "data" || number > stopped) listener(value)
        })
    })
  }
  return Effect.sync(() => void (stopped = watches))
}

/** Makes a process receive what its watches show late. `flow` passes on what was held back since `stop`. */
const dam = (client: Etcd3) => {
  const watch = client.watchClient.watch.bind(client.watchClient)
  const heldBack: Array<() => void> = []
  let isOpen = true
  client.watchClient.watch = async (options) => {
    const stream = await watch(options)
    const on = stream.on.bind(stream) as (event: string, listener: Listener) => unknown
    return Object.assign(stream, {
      on: (event: string, listener: Listener) =>
        on(event, (value) => {
          if (event !== "data" || isOpen) listener(value)
          else heldBack.push(() => listener(value))
        })
    })
  }
  return {
    stop: Effect.sync(() => void (isOpen = false)),
    flow: Effect.sync(() => {
      isOpen = true
      for (const pass of heldBack.splice(0)) pass()
    }),
    holdsBack: (count: number) => until(Effect.sync(() => heldBack.length >= count))
  }
}

describe("a process whose watch receives nothing any more", () => {
  it.live("is not refused permits that are free by now", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const stop = keepBack(one.client)
      yield* one.listens
      yield* other.tries("holder", 1, 1)
      expect(yield* one.tries("a", 1, 1)).toBe(false)
      yield* stop
      yield* other.releases("holder", 1)
      expect(yield* one.tries("a", 1, 1)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("does not get permits that are taken by now", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const stop = keepBack(one.client)
      yield* one.listens
      yield* stop
      yield* other.tries("holder", 1, 2)
      expect(yield* one.tries("a", 2, 2)).toBe(false)
      expect(yield* one.queues("a", 2, 2)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 2"] })
    }))

  it.live("learns at the next refresh of a place that it was granted, or is gone", () =>
    Effect.gen(function*() {
      const { one, other } = yield* setting
      const stop = keepBack(one.client)
      yield* one.listens
      yield* other.queues("holder", 1, 1)
      yield* one.queues("a", 1, 1)
      yield* one.queues("b", 1, 1)
      yield* stop
      yield* other.releases("holder", 1)
      expect(yield* one.refreshes("a")).toMatchObject(acquired)
      yield* other.releases("b", 1)
      expect(yield* one.refreshes("b")).toBe(false)
    }))

  it.live("watches anew, and is notified", () =>
    Effect.gen(function*() {
      const { one, other } = yield* setting
      const stop = keepBack(one.client)
      yield* other.tries("holder", 2, 2)
      const heard = yield* one.listens
      const a = yield* one.queues("a", 1, 2)
      yield* stop
      yield* other.queues("b", 1, 2)
      expect(yield* one.queues("c", 1, 2)).toMatchObject({ _tag: "Waiting", position: 2 })
      yield* until(Effect.sync(() => heard.includes(undefined)))
      yield* other.releases("holder", 2)
      yield* until(Effect.sync(() => heard.includes((a as { fencingToken: bigint }).fencingToken)))
    }))

  it.live("joins a long line without reading it, and is notified once it watches anew", () =>
    Effect.gen(function*() {
      const { one, other } = yield* setting
      const stop = keepBack(one.client)
      const others = Array.from({ length: 260 }, (_, index) => `other ${index}`)
      yield* Effect.forEach(others, (id) => other.queues(id, 1, 1), { concurrency: 16 })
      const heard = yield* one.listens
      yield* stop
      const read = reads(one.client)
      const place = yield* one.queues("a", 1, 1)
      expect([place, sum(read)]).toMatchObject([{ _tag: "Waiting", position: 260 }, 0])
      yield* until(Effect.sync(() => heard.includes(undefined)))
      expect(yield* one.refreshes("a")).toMatchObject({ _tag: "Waiting", position: 259 })
      yield* Effect.forEach(others, (id) => other.releases(id, 1), { concurrency: 16 })
      yield* until(Effect.sync(() => heard.includes((place as { fencingToken: bigint }).fencingToken)))
    }))

  it.live("is waited for once, not before each contender that joins after a release", () =>
    Effect.gen(function*() {
      const { one } = yield* setting
      const stop = keepBack(one.client)
      yield* one.listens
      yield* one.queues("holder", 1, 1)
      yield* one.queues("0", 1, 1)
      yield* one.queues("waiter", 1, 1)
      yield* stop
      const waits: Array<number> = []
      for (const turn of [1, 2, 3]) {
        yield* one.releases(`${turn - 1}`, 1)
        const start = performance.now()
        before(one.client, joins(`${turn}`), Effect.sync(() => waits.push(performance.now() - start)))
        expect(yield* one.queues(`${turn}`, 1, 1)).toMatchObject({ _tag: "Waiting", position: 1 })
      }
      expect(waits[0]).toBeGreaterThan(200)
      expect(Math.min(waits[1]!, waits[2]!)).toBeLessThan(200)
    }))

  it.live("has its answer after a few attempts, although others write all the time", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.listens
      yield* other.queues("holder", 1, 1)
      const txn = one.client.kv.txn.bind(one.client.kv)
      let count = 0
      one.client.kv.txn = async (request, options) => {
        await Effect.runPromise(other.queues(`waiter ${count++}`, 1, 1))
        return txn(request, options)
      }
      expect(yield* one.tries("a", 1, 1)).toBe(false)
      expect(count).toBeLessThan(20)
      expect((yield* state).line.length).toBeGreaterThanOrEqual(count)
    }))
})

describe("a process that could not watch, and does not try again", () => {
  it.live("looks when it joins a long line, because nobody would notify it of its hold", () =>
    Effect.gen(function*() {
      const { key, other } = yield* setting
      const client = yield* connect(inject("etcdUrl"))
      client.watchClient.watch = () => Promise.reject(new Error("no watch"))
      const { tryAcquire } = Context.get(
        yield* Layer.build(EtcdBacking.layer(client, { pushStreamRetrySchedule: Schedule.recurs(0) })),
        DistributedSemaphoreBacking
      )
      const others = Array.from({ length: 260 }, (_, index) => `other ${index}`)
      yield* Effect.forEach(others, (id) => other.queues(id, 1, 1000), { concurrency: 16 })
      expect(yield* tryAcquire(key, "a", minute, 1000, 1, { queue: true })).toMatchObject(acquired)
    }))
})

describe("a process whose watch lags", () => {
  it.live("learns that a place was granted while a refresh moved it to another lease", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      const { flow, holdsBack, stop } = dam(one.client)
      yield* one.listens
      yield* other.tries("holder", 1, 1)
      const { fencingToken } = (yield* one.queues("a", 1, 1)) as Waiting
      yield* stop
      yield* other.queues("b", 1, 1)
      const granted = Effect.all([other.releases("holder", 1), holdsBack(2), flow])
      before(one.client, moves("a"), granted)
      const refresh = one.backing.refresh(key, "a", Duration.seconds(30), 1, 1, { fencingToken })
      expect(yield* refresh).toMatchObject(acquired)
    }))

  it.live("waits for no event that its watch never shows, because others write elsewhere while it begins", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* other.tries("holder", 1, 1)
      const { fencingToken } = (yield* one.queues("a", 1, 1)) as Waiting
      yield* Effect.forEach(Array.from({ length: 20 }, (_, index) => `other ${index}`), (id) => other.queues(id, 1, 1))
      const { flow, holdsBack, stop } = dam(one.client)
      yield* stop
      yield* Effect.forkScoped(one.listens, { startImmediately: true })
      yield* holdsBack(1)
      yield* other.backing.tryAcquire(freshKey(), "a", minute, 1, 1)
      const read = reads(one.client)
      const refresh = one.backing.refresh(key, "a", minute, 1, 1, { fencingToken })
      const refreshing = yield* Effect.forkScoped(refresh, { startImmediately: true })
      yield* until(Effect.sync(() => read.length > 0))
      yield* flow
      expect(yield* Fiber.join(refreshing)).toMatchObject({ _tag: "Waiting", position: 0 })
      // The line was too long to be read at once, and then nothing in it had changed since the watch began.
      expect(read).toEqual([17, 0])
    }))
})

describe("contenders whose keys are deleted in one step", () => {
  it.live("grant nothing to each other", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const heard = yield* one.listens
      yield* other.tries("a", 1, 1)
      yield* Effect.forEach(["b", "c"], (id) => one.queues(id, 1, 1))
      yield* Effect.promise(() => other.client.delete().prefix(`semaphore/${key}/`))
      yield* other.tries("holder", 1, 1)
      const place = yield* one.queues("next", 1, 1)
      yield* other.releases("holder", 1)
      yield* until(Effect.sync(() => heard.length > 0))
      expect(heard).toEqual([(place as { fencingToken: bigint }).fencingToken])
      expect(yield* state).toEqual({ holders: ["next 1"], line: [] })
    }))
})

describe("a look that is not answered", () => {
  it.live("holds up no caller that came later, even if no other comes", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* other.tries("holder", 1, 1)
      const txn = one.client.kv.txn.bind(one.client.kv)
      let looks = 0
      one.client.kv.txn = (request, options) => ++looks === 1 ? new Promise(() => {}) : txn(request, options)
      const count = one.backing.getCount(key, minute)
      yield* Effect.forkScoped(count, { startImmediately: true })
      const early = yield* Effect.forkScoped(count, { startImmediately: true })
      expect(looks).toBe(1)
      expect(yield* Effect.timeout(Fiber.join(early), "3 seconds")).toBe(1)
      expect(yield* Effect.timeout(count, "3 seconds")).toBe(1)
    }))
})

describe("a hundred waiters that are refreshed at the same time, one by one", () => {
  it.live("ask about their line together", () =>
    Effect.gen(function*() {
      const { one } = yield* setting
      yield* one.listens
      yield* one.queues("holder", 1, 1)
      const waiters = Array.from({ length: 100 }, (_, index) => `waiter ${index}`)
      yield* Effect.forEach(waiters, (id) => one.queues(id, 1, 1))
      const refreshes = Effect.forEach(waiters, one.refreshes, { concurrency: "unbounded" })
      const txns = reads(one.client)
      const round = Effect.gen(function*() {
        const before = txns.length
        const answers = yield* refreshes
        expect(answers).toMatchObject(waiters.map((_, position) => ({ _tag: "Waiting", position })))
        return txns.length - before
      })
      // Those that joined at different times move to one lease, on a busy machine by several rounds. From then on the first one asks,
      // and the others share the next question.
      yield* until(Effect.map(round, (asked) => asked === 2))
    }))
})
