/** The interleavings of the protocol in etcd, each driven: what another process does just before a request takes effect. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Stream } from "effect"
import type { Etcd3, ITxnRequest, IWatchResponse } from "etcd3"
import { inject } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { connect, findsNoLease, keys } from "../utils/etcd.ts"
import { until } from "../utils/until.ts"

const minute = Duration.minutes(1)

let fresh = 0

/** Two processes that use one key. */
const setting = Effect.gen(function*() {
  const key = `races-${process.pid}-${fresh++}`
  const build = Effect.gen(function*() {
    const client = yield* connect(inject("etcdUrl"))
    const backing = Context.get(yield* Layer.build(EtcdBacking.layer(client)), DistributedSemaphoreBacking)
    const ask = (queue: boolean) => (id: string, permits: number, limit: number) =>
      backing.tryAcquire(key, id, minute, limit, permits, { queue })
    return {
      client,
      backing,
      tries: ask(false),
      queues: ask(true),
      releases: (id: string, permits: number) => backing.release(key, id, permits),
      /** Whether a waiter has been told, since the last time, that it can go. */
      hears: (id: string) =>
        Effect.gen(function*() {
          let count = 0
          yield* Effect.forkScoped(
            Stream.runForEach(backing.onPermitsReleased!(key, id), () => Effect.sync(() => count++)),
            { startImmediately: true }
          )
          yield* until(Effect.sync(() => count > 0))
          count = 0
          return Effect.andThen(until(Effect.sync(() => count > 0)), Effect.sync(() => count = 0))
        })
    }
  })
  const [one, other] = [yield* build, yield* build]
  return {
    key,
    one,
    other,
    state: Effect.map(one.backing.inspect!(key), ({ holders, line }) => ({
      holders: holders.map(({ identifier, permits }) => `${identifier} ${permits}`),
      line: line.map(({ identifier, permits }) => `${identifier} ${permits}`)
    }))
  }
})

type Process = Effect.Success<typeof setting>["one"]

const puts = (part: string) => ({ success }: ITxnRequest) =>
  success?.some(({ request_put }) => request_put?.key?.includes(part)) ?? false

const removes = (part: string) => (request: ITxnRequest) =>
  !puts("")(request)
  && (request.success?.some(({ request_delete_range }) => request_delete_range?.key?.includes(part)) ?? false)

/** Does something before each request of a kind is sent, told the how many-th it is; these requests, to send them again. */
const beforeEach = (
  client: Etcd3,
  kind: (request: ITxnRequest) => boolean,
  effect: (count: number) => Effect.Effect<unknown, unknown>
) => {
  const txn = client.kv.txn.bind(client.kv)
  const seen: Array<ITxnRequest> = []
  client.kv.txn = async (request, options) => {
    if (kind(request)) await Effect.runPromise(effect(seen.push(request)))
    return txn(request, options)
  }
  return seen
}

/** The same, before the first only. */
const before = (client: Etcd3, kind: (request: ITxnRequest) => boolean, effect: Effect.Effect<unknown, unknown>) =>
  beforeEach(client, kind, (count) => count === 1 ? effect : Effect.void)

/** Sends the first request of a kind twice, as the client does when the reply is lost, and does something in between. */
const repeat = (client: Etcd3, kind: (request: ITxnRequest) => boolean, between: Effect.Effect<unknown, unknown>) => {
  const txn = client.kv.txn.bind(client.kv)
  let isDone = false
  client.kv.txn = async (request, options) => {
    if (isDone || !kind(request)) return txn(request, options)
    isDone = true
    await txn(request, options)
    await Effect.runPromise(between)
    return txn(request, options)
  }
}

/** Lets the first request of a kind fail before it is sent; these requests, to send them later. */
const delay = (client: Etcd3, kind: (request: ITxnRequest) => boolean) =>
  before(client, kind, Effect.fail(new Error("no reply")))

/** On which lease each hold, place and note of a key is: `hold/a`, `line/a`, `note/a`. */
const leasesOf = (client: Etcd3, key: string) =>
  Effect.map(Effect.promise(() => client.getAll().exec()), ({ kvs }) =>
    new Map(kvs.flatMap((kv) => {
      const [, part] = kv.key.toString().split(`${key}/`)
      return part === undefined ? [] : [[part.split("/").slice(0, 2).join("/"), kv.lease]]
    })))

/** Lets a process have a free lease, and revokes that before it is renewed next: after the request that is under way. */
const withLeaseThatEnds = (one: Process, ttl = minute) =>
  Effect.gen(function*() {
    const unused = `races-${process.pid}-${fresh++}`
    yield* one.backing.tryAcquire(unused, "a", ttl, 1, 1)
    const lease = (yield* leasesOf(one.client, unused)).get("hold/a")!
    yield* one.backing.release(unused, "a", 1)
    const { kv, leaseClient } = one.client
    const [txn, keepAlive] = [kv.txn.bind(kv), leaseClient.leaseKeepAlive.bind(leaseClient)]
    let underWay: Promise<unknown> | undefined
    kv.txn = (request, options) => {
      const answer = txn(request, options)
      underWay = answer
      return answer
    }
    leaseClient.leaseKeepAlive = async (options) => {
      await underWay
      await one.client.leaseClient.leaseRevoke({ ID: lease }).catch(() => {})
      return keepAlive(options)
    }
  })

const acquired = { _tag: "Acquired" }

describe("who is about to acquire without a place", () => {
  it.live("does not exceed the limit when another acquires first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const seen = before(one.client, puts("/hold/"), other.tries("b", 2, 3))
      expect(yield* one.tries("a", 2, 3)).toBe(false)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["b 2"], line: [] })
    }))

  it.live("does not overtake one who joins the line first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 3)
      before(one.client, puts("/hold/"), other.queues("b", 3, 3))
      expect(yield* one.tries("a", 1, 3)).toBe(false)
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["b 3"] })
    }))

  it.live("goes all the same when others only leave", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 3)
      const seen = before(one.client, puts("/hold/"), other.releases("holder", 1))
      expect(yield* one.tries("a", 1, 3)).toMatchObject(acquired)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))
})

describe("who is about to join the line", () => {
  it.live("goes at once when the way becomes free first, and was never in line", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      const seen = before(one.client, puts("/line/"), other.releases("holder", 1))
      expect(yield* one.queues("a", 1, 1)).toMatchObject(acquired)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("does not join when another process, with a larger limit, acquires for it first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 2)
      before(one.client, puts("/line/"), other.tries("a", 2, 3))
      expect(yield* one.queues("a", 2, 2)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["holder 1", "a 2"], line: [] })
    }))
})

describe("who is about to join the line, and each time finds that what was in the way has gone", () => {
  /** Another holder each time. */
  const changesHands = (process: Process) => (count: number) =>
    Effect.all([process.releases(`holder ${count - 1}`, 2), process.tries(`holder ${count}`, 2, 2)])

  it.live("joins all the same", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder 0", 2, 2)
      const seen = beforeEach(one.client, puts("/line/"), changesHands(other))
      expect(yield* one.queues("a", 1, 2)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(seen).toHaveLength(6)
      expect(yield* state).toEqual({ holders: ["holder 6 2"], line: ["a 1"] })
    }))

  it.live("goes, if there is nobody any more", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder 0", 2, 2)
      beforeEach(one.client, puts("/line/"), (count) =>
        count < 6 ? changesHands(other)(count) : other.releases("holder 5", 2))
      expect(yield* one.queues("a", 1, 2)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))
})

describe("who has more in its way than a request can compare", () => {
  it.live.each([130, 100])(
    "joins the line, and goes if %d others have gone by then",
    (limit) =>
      Effect.gen(function*() {
        const { one, other, state } = yield* setting
        const holders = Array.from({ length: limit }, (_, index) => `holder ${index}`)
        const all = (operation: (id: string) => Effect.Effect<unknown, unknown>) =>
          Effect.forEach(holders, operation, { concurrency: 8 })
        yield* all((id) => other.tries(id, 1, limit))
        before(one.client, puts("/line/"), all((id) => other.releases(id, 1)))
        expect(yield* one.queues("a", 1, limit)).toMatchObject(acquired)
        expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
      })
  )
})

describe("who is about to join the line, and finds that another process did so for it", () => {
  it.live("has that place", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      before(one.client, puts("/line/"), Effect.all([other.queues("a", 1, 1), other.queues("b", 1, 1)]))
      expect(yield* one.queues("a", 1, 1)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 1", "b 1"] })
    }))
})

describe("a waiter whose turn has come", () => {
  it.live("goes, whatever others with its limit do first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 3)
      const told = yield* one.hears("a")
      yield* one.queues("a", 1, 3)
      yield* other.queues("b", 1, 3)
      yield* other.releases("holder", 2)
      yield* told
      const seen = before(
        one.client,
        puts("/hold/"),
        Effect.all([other.tries("b", 1, 3), other.queues("c", 2, 3), other.releases("holder", 1)])
      )
      expect(yield* one.queues("a", 1, 3)).toMatchObject(acquired)
      // By the first request.
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["b 1", "a 1"], line: ["c 2"] })
    }))

  it.live("does not go when one with a larger limit passes it first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 2, 10)
      const told = yield* one.hears("a")
      yield* one.queues("a", 1, 2)
      const seen = before(one.client, puts("/hold/"), other.tries("b", 5, 10))
      yield* other.releases("holder", 2)
      yield* told
      expect(yield* one.queues("a", 1, 2)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["b 5"], line: ["a 1"] })
    }))

  it.live("does not go when one ahead asks for more first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 3)
      const told = yield* one.hears("b")
      yield* other.queues("a", 1, 3)
      yield* one.queues("b", 1, 3)
      yield* other.releases("holder", 2)
      yield* told
      before(one.client, puts("/hold/"), other.queues("a", 3, 3))
      expect(yield* one.queues("b", 1, 3)).toMatchObject({ _tag: "Waiting", position: 1 })
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 3", "b 1"] })
    }))

  it.live("does not go when one ahead asks for more first, and then has it", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 3)
      const told = yield* one.hears("b")
      yield* other.queues("a", 1, 3)
      yield* one.queues("b", 1, 3)
      yield* other.releases("holder", 2)
      yield* told
      const more = Effect.all([other.queues("a", 3, 3), other.releases("holder", 1), other.queues("a", 3, 3)])
      before(one.client, puts("/hold/"), more)
      expect(yield* one.queues("b", 1, 3)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["a 3"], line: ["b 1"] })
    }))

  it.live("does not go when one ahead acquires more than it waited for first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 3)
      const told = yield* one.hears("b")
      yield* other.queues("a", 1, 3)
      yield* one.queues("b", 1, 3)
      yield* other.releases("holder", 3)
      yield* told
      before(one.client, puts("/hold/"), other.queues("a", 3, 3))
      expect(yield* one.queues("b", 1, 3)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["a 3"], line: ["b 1"] })
    }))

  it.live("does not take more than it waited for, by what it saw", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 4, 4)
      const told = yield* one.hears("a")
      yield* one.queues("a", 1, 4)
      yield* other.releases("holder", 3)
      yield* told
      before(one.client, puts("/hold/"), other.tries("b", 2, 4))
      expect(yield* one.queues("a", 3, 4)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["holder 1", "b 2"], line: ["a 3"] })
    }))

  it.live("stands at the end when its place is lost first", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      const told = yield* one.hears("a")
      yield* one.queues("a", 1, 1)
      yield* other.queues("b", 1, 1)
      yield* other.releases("holder", 1)
      yield* told
      before(one.client, puts("/hold/"), other.releases("a", 1))
      expect(yield* one.queues("a", 1, 1)).toMatchObject({ _tag: "Waiting", position: 1 })
      expect(yield* state).toEqual({ holders: [], line: ["b 1", "a 1"] })
    }))
})

describe("an acquire that is interrupted", () => {
  it.live("and takes effect after the release finds its lease gone", () =>
    Effect.gen(function*() {
      const { one, state } = yield* setting
      // Leaves a lease that is used again.
      yield* one.tries("first", 1, 1)
      yield* one.releases("first", 1)
      const [sent, isOnItsWay] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const wait = Effect.andThen(Deferred.succeed(isOnItsWay, undefined), Deferred.await(sent))
      const seen = before(one.client, puts("/hold/"), wait)
      const acquiring = yield* Effect.forkScoped(one.tries("a", 1, 1), { startImmediately: true })
      yield* Deferred.await(isOnItsWay)
      yield* Fiber.interrupt(acquiring)
      expect(yield* one.releases("a", 1)).toBe(0)
      yield* findsNoLease(one.client, seen[0]!)
      yield* Deferred.succeed(sent, undefined)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("an acquire that is repeated, and refused", () => {
  it.live("finds its lease gone when it takes effect late", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const seen = before(one.client, puts("/hold/"), Effect.void)
      repeat(one.client, puts("/hold/"), Effect.void)
      yield* other.tries("holder", 1, 1)
      expect(yield* one.tries("a", 1, 1)).toBe(false)
      yield* other.releases("holder", 1)
      expect(seen).toHaveLength(2)
      yield* findsNoLease(other.client, seen[0]!)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("a refresh that finds nothing after an acquire that failed", () => {
  it.live("leaves it no lease for when it takes effect late", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const seen = delay(one.client, puts("/hold/"))
      yield* Effect.flip(one.tries("a", 1, 1))
      expect(yield* one.backing.refresh(key, "a", minute, 1, 1)).toBe(false)
      yield* findsNoLease(other.client, seen[0]!)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("who acquires again after a release that failed", () => {
  it.live("holds, when that release takes effect late", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const first = yield* one.tries("a", 1, 1)
      const seen = delay(one.client, removes("/line/a"))
      yield* Effect.flip(one.releases("a", 1))
      expect(yield* one.tries("a", 1, 1)).toEqual(first)
      expect((yield* Effect.promise(() => other.client.kv.txn(seen[0]!))).succeeded).toBe(false)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("holds, when the leases of what was released are revoked late", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 1, 1)
      delay(one.client, removes("/line/a"))
      yield* Effect.flip(one.releases("a", 1))
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

describe("a release", () => {
  it.live("that takes effect again later frees nothing that was acquired since", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 1, 1)
      const seen = before(one.client, removes("/hold/"), Effect.void)
      expect(yield* one.releases("a", 1)).toBe(1)
      yield* other.tries("a", 1, 1)
      expect((yield* Effect.promise(() => other.client.kv.txn(seen[0]!))).succeeded).toBe(false)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("of a place that takes effect again later leaves the next place of that name alone", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      yield* one.queues("a", 1, 1)
      const seen = before(one.client, removes("/line/"), Effect.void)
      expect(yield* one.releases("a", 1)).toBe(0)
      yield* other.queues("a", 1, 1)
      expect((yield* Effect.promise(() => other.client.kv.txn(seen[0]!))).succeeded).toBe(false)
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 1"] })
    }))

  it.live("of a part that is repeated, when it was carried out, frees that part once", () =>
    Effect.gen(function*() {
      const { one, state } = yield* setting
      yield* one.tries("a", 3, 3)
      repeat(one.client, removes("/line/a"), Effect.void)
      expect(yield* one.releases("a", 1)).toBe(1)
      expect(yield* state).toEqual({ holders: ["a 2"], line: [] })
      expect(yield* one.releases("a", 2)).toBe(2)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))

  it.live("that is repeated, when it was carried out, frees nothing that another process acquired since", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 2, 3)
      repeat(one.client, removes("/line/a"), other.tries("a", 2, 3))
      expect(yield* one.releases("a", 2)).toBe(2)
      expect(yield* state).toEqual({ holders: ["a 2"], line: [] })
    }))

  it.live("of a place that is repeated, when it was carried out, leaves that of another process alone", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 3, 3)
      yield* one.queues("a", 1, 3)
      repeat(one.client, removes("/line/a"), other.queues("a", 1, 3))
      expect(yield* one.releases("a", 1)).toBe(0)
      expect(yield* state).toEqual({ holders: ["holder 3"], line: ["a 1"] })
    }))

  it.live("that is repeated, and was refused at first because of what another process did, is carried out", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* one.tries("a", 2, 3)
      yield* other.backing.refresh(key, "a", minute, 3, 2)
      repeat(one.client, removes("/line/a"), Effect.void)
      expect(yield* one.releases("a", 2)).toBe(2)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))

  it.live("that is repeated, and was refused at first because another gave up a part, frees the rest", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 3, 3)
      yield* other.releases("a", 1)
      repeat(one.client, removes("/line/a"), Effect.void)
      expect(yield* one.releases("a", 3)).toBe(2)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))

  it.live("that is repeated, and was refused at first because the hold has ended, gives up the place", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* one.tries("a", 1, 3)
      yield* other.tries("b", 2, 3)
      yield* one.queues("a", 2, 3)
      const ID = (yield* leasesOf(one.client, key)).get("hold/a")!
      yield* Effect.promise(() => other.client.leaseClient.leaseRevoke({ ID }))
      repeat(one.client, removes("/line/a"), Effect.void)
      yield* one.releases("a", 3)
      expect(yield* state).toEqual({ holders: ["b 2"], line: [] })
    }))

  it.live("of a part, before which another process gave up a part, frees what is left", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 3, 3)
      before(one.client, removes("/hold/"), other.releases("a", 2))
      expect(yield* one.releases("a", 3)).toBe(1)
      expect(yield* state).toEqual({ holders: [], line: [] })
    }))
})

describe("who sees late what happens", () => {
  type Listener = (response: IWatchResponse) => void

  /**
   * Keeps the events of the watches of a process back from when `stop` is run, until `resume` is: then they come in one
   * response.
   */
  const keepBack = (client: Etcd3) => {
    let kept: Array<IWatchResponse> | undefined
    let watches = 0
    let stopped = 0
    let deliver: Listener
    const watch = client.watchClient.watch.bind(client.watchClient)
    client.watchClient.watch = async (options) => {
      const stream = await watch(options)
      const on = stream.on.bind(stream) as (event: string, listener: Listener) => unknown
      const number = ++watches
      return Object.assign(stream, {
        on: (event: string, listener: Listener) => {
          if (event === "data") deliver = listener
          return on(
            event,
            (value) => event === "data" && kept && number <= stopped ? kept.push(value) : listener(value)
          )
        }
      })
    }
    return {
      stop: Effect.sync(() => {
        kept = []
        stopped = watches
      }),
      /** When so many events have come. */
      resume: (count: number) =>
        Effect.gen(function*() {
          yield* until(Effect.sync(() => kept!.flatMap(({ events }) => events).length >= count))
          const responses = kept!
          kept = undefined
          deliver({ ...responses[0]!, events: responses.flatMap(({ events }) => events) })
        })
    }
  }

  it.live("is not refused what is free by now", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const { stop } = keepBack(one.client)
      yield* one.hears("a")
      yield* other.tries("holder", 1, 1)
      expect(yield* one.tries("a", 1, 1)).toBe(false)
      yield* stop
      yield* other.releases("holder", 1)
      expect(yield* one.tries("a", 1, 1)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("looks for itself where others never stop", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.hears("a")
      yield* other.tries("holder", 1, 1)
      let count = 0
      const compares = beforeEach(one.client, ({ compare, success }) =>
        compare?.length === 1 && success?.length === 1 && success[0]!.request_range?.count_only === true, () =>
        Effect.gen(function*() {
          yield* other.queues(`waiter ${count++}`, 1, 1)
          yield* Effect.promise(() =>
            other.client.put("races").value("something else")
          )
        }))
      expect(yield* one.tries("a", 1, 1)).toBe(false)
      expect(compares.length).toBeGreaterThan(0)
      expect((yield* state).line).toHaveLength(compares.length)
    }))

  it.live("watches anew when nothing comes any more", () =>
    Effect.gen(function*() {
      const { one, other } = yield* setting
      const { stop } = keepBack(one.client)
      yield* other.tries("holder", 2, 2)
      yield* one.queues("a", 1, 2)
      const told = yield* one.hears("a")
      yield* stop
      yield* other.queues("b", 1, 2)
      expect(yield* one.queues("a", 1, 2)).toMatchObject({ _tag: "Waiting" })
      // That the new watch stands.
      yield* told
      yield* other.releases("holder", 2)
      yield* told
      expect(yield* one.queues("a", 1, 2)).toMatchObject(acquired)
    }))

  it.live("leaves a hold alone that has another number by now", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const { stop } = keepBack(one.client)
      yield* other.tries("holder", 3, 5)
      yield* one.tries("a", 2, 5)
      const before = yield* leasesOf(one.client, key)
      yield* one.hears("a")
      yield* stop
      yield* other.releases("a", 1)
      expect(yield* one.backing.tryAcquire(key, "a", Duration.seconds(5), 4, 2)).toBe(false)
      expect((yield* leasesOf(one.client, key)).get("hold/a")).toBe(before.get("hold/a"))
      expect(yield* state).toEqual({ holders: ["holder 3", "a 1"], line: [] })
    }))

  it.live("is told that its turn has come again, although it sees at once that it had gone and came", () =>
    Effect.gen(function*() {
      const { one, other } = yield* setting
      const { resume, stop } = keepBack(one.client)
      yield* other.tries("holder", 3, 3)
      yield* other.queues("ahead", 1, 3)
      yield* one.queues("a", 1, 3)
      const told = yield* one.hears("a")
      yield* other.releases("holder", 2)
      yield* told
      yield* stop
      yield* other.queues("ahead", 3, 3)
      expect(yield* one.queues("a", 1, 3)).toMatchObject({ _tag: "Waiting", position: 1 })
      yield* other.releases("ahead", 3)
      yield* resume(4)
      yield* told
    }))

  it.live("does not get what is taken by now", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const { stop } = keepBack(one.client)
      yield* one.hears("a")
      yield* stop
      yield* other.tries("holder", 1, 2)
      expect(yield* one.tries("a", 2, 2)).toBe(false)
      expect(yield* one.queues("a", 2, 2)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 2"] })
    }))
})

describe("a refresh from another process", () => {
  it.live("that takes long to move the hold leaves it no less time than it was given meanwhile", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* one.tries("a", 1, 1)
      before(
        other.client,
        puts("/hold/"),
        Effect.andThen(Effect.sleep("3 seconds"), one.backing.refresh(key, "a", minute, 1, 1))
      )
      expect(yield* other.backing.refresh(key, "a", minute, 1, 1)).toMatchObject(acquired)
      const { holders: [hold] } = yield* one.backing.inspect!(key)
      expect(Duration.toSeconds(hold!.remaining)).toBeGreaterThan(57)
    }))

  it.live("that moves the hold to a lease of its own resurrects nothing that is released first", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* one.tries("a", 1, 1)
      const seen = before(other.client, puts("/hold/"), one.releases("a", 1))
      expect(yield* other.backing.refresh(key, "a", minute, 1, 1)).toBe(false)
      expect(seen).toHaveLength(1)
      expect((yield* keys(one.client)).filter((name) => name.includes(key))).toEqual([])
    }))
})

describe("a lease from an earlier use that expires before it is renewed", () => {
  it.live("takes no place in line with it", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 2, 2)
      yield* other.queues("a", 1, 2)
      yield* other.queues("b", 2, 2)
      yield* withLeaseThatEnds(one)
      expect(yield* one.queues("a", 1, 2)).toMatchObject({ _tag: "Waiting", position: 0 })
      expect(yield* state).toEqual({ holders: ["holder 2"], line: ["a 1", "b 2"] })
    }))

  it.live("takes no turn with it", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 2, 2)
      yield* other.queues("a", 1, 2)
      yield* other.queues("b", 2, 2)
      yield* other.releases("holder", 2)
      yield* withLeaseThatEnds(one)
      expect(yield* one.queues("a", 1, 2)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["a 1"], line: ["b 2"] })
    }))

  it.live("takes no hold with it", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      const first = yield* other.tries("a", 1, 1)
      yield* withLeaseThatEnds(one)
      expect(yield* one.backing.refresh(key, "a", minute, 1, 1)).toEqual(first)
    }))
})

describe("a lease from an earlier use, of whose time much is over", () => {
  it.live("is renewed before anything is put on it", () =>
    Effect.gen(function*() {
      const { key, one, state } = yield* setting
      const ttl = Duration.seconds(2)
      yield* withLeaseThatEnds(one, ttl)
      yield* Effect.sleep("1.1 seconds")
      const seen = before(one.client, puts("/hold/"), Effect.void)
      expect(yield* one.backing.tryAcquire(key, "a", ttl, 1, 1)).toMatchObject(acquired)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))
})

describe("who has a place in a long line, and does not watch", () => {
  it.live("goes without queueing when its turn has come", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      for (const id of ["a", "b", "c", "d"]) yield* other.queues(id, 1, 1)
      yield* other.releases("holder", 1)
      expect(yield* one.tries("b", 1, 1)).toBe(false)
      expect(yield* one.tries("a", 1, 1)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["a 1"], line: ["b 1", "c 1", "d 1"] })
    }))
})

describe("who asks again for what it holds", () => {
  /** What it has itself, and nothing of others. */
  const asksFor = (part: string) => ({ success }: ITxnRequest) =>
    success?.every(({ request_range }) => request_range?.key?.includes(part)) ?? false

  it.live("has it, although another process gives up a part meanwhile", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      const first = yield* one.tries("a", 2, 4)
      const seen = before(one.client, asksFor("/a"), other.releases("a", 1))
      expect(yield* one.tries("a", 2, 4)).toEqual(first)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["a 1"], line: [] })
    }))

  it.live("does not take for its own what another process acquires in its name meanwhile", () =>
    Effect.gen(function*() {
      const { one, other, state } = yield* setting
      yield* one.tries("a", 2, 4)
      const seen = before(one.client, asksFor("/a"), other.tries("a", 3, 4))
      expect(yield* one.tries("a", 2, 4)).toMatchObject(acquired)
      expect(seen).toHaveLength(1)
      expect(yield* state).toEqual({ holders: ["a 2"], line: [] })
    }))
})

describe("names within a semaphore that somebody else has put there", () => {
  it.live("are in nobody's way", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* other.tries("holder", 1, 1)
      yield* one.queues("a", 1, 1)
      const told = yield* one.hears("a")
      const names = ["line/C:\\x", "line/b", "hold/c/a", "hold/d/e", "line/f/g", "hold", "else", "note/h/i"]
      const folder = `semaphore/${key}/`
      yield* Effect.forEach(names, (name) => Effect.promise(() => other.client.put(folder + name).value("by hand")))
      expect(yield* state).toEqual({ holders: ["holder 1"], line: ["a 1"] })
      yield* other.releases("holder", 1)
      yield* told
      expect(yield* one.queues("a", 1, 1)).toMatchObject(acquired)
      yield* Effect.promise(() => other.client.delete().prefix(folder))
      expect(yield* one.tries("b", 1, 1)).toMatchObject(acquired)
      expect(yield* state).toEqual({ holders: ["b 1"], line: [] })
    }))
})

describe("a note", () => {
  it.live("goes where the hold goes that it is about", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* other.tries("holder", 3, 3)
      yield* one.queues("a", 1, 3)
      yield* other.releases("holder", 3)
      yield* one.queues("a", 3, 3)
      const before = yield* leasesOf(one.client, key)
      expect(before.get("note/a")).toBe(before.get("hold/a"))
      expect(yield* other.backing.refresh(key, "a", minute, 3, 3)).toMatchObject(acquired)
      const after = yield* leasesOf(one.client, key)
      expect(after.get("hold/a")).not.toBe(before.get("hold/a"))
      expect(after.get("note/a")).toBe(after.get("hold/a"))
    }))

  it.live("goes where the place goes that it is about", () =>
    Effect.gen(function*() {
      const { key, one, other } = yield* setting
      yield* other.tries("holder", 3, 3)
      yield* one.queues("a", 1, 3)
      yield* one.queues("a", 2, 3)
      const before = yield* leasesOf(one.client, key)
      expect(before.get("note/a")).toBe(before.get("line/a"))
      yield* other.queues("a", 2, 3)
      const after = yield* leasesOf(one.client, key)
      expect(after.get("line/a")).not.toBe(before.get("line/a"))
      expect(after.get("note/a")).toBe(after.get("line/a"))
    }))
})

describe("who is refused another number", () => {
  /**
   * Does something when what `a` has, a hold or else a place, has lasted for a second, and sees that it goes on to end. Its answer.
   */
  const prolongsNothing = <A, E>(key: string, { backing }: Process, operation: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      const remaining = Effect.map(
        backing.inspect!(key),
        ({ holders, line }) =>
          Duration.toMillis([...holders, ...line].find(({ identifier }) => identifier === "a")!.remaining)
      )
      const first = yield* remaining
      yield* until(Effect.map(remaining, (now) => now < first - 1000))
      const answer = yield* operation
      expect(yield* remaining).toBeLessThan(first)
      return answer
    })

  it.live("because another acquires first does not prolong its hold", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* one.tries("a", 2, 4)
      before(one.client, puts("/hold/"), other.tries("b", 2, 4))
      expect(yield* prolongsNothing(key, one, one.tries("a", 3, 4))).toBe(false)
      expect(yield* state).toEqual({ holders: ["a 2", "b 2"], line: [] })
    }))

  it.live.each(["tries", "queues"] as const)(
    "namely all, as one that %s, does not prolong its hold",
    (asks) =>
      Effect.gen(function*() {
        const { key, one, other, state } = yield* setting
        yield* one.tries("a", 2, 4)
        yield* other.tries("b", 2, 4)
        const answer = yield* prolongsNothing(key, one, one[asks]("a", 4, 4))
        if (asks === "queues") expect(answer).toMatchObject({ _tag: "Waiting", position: 0 })
        else expect(answer).toBe(false)
        expect(yield* state).toEqual({ holders: ["a 2", "b 2"], line: asks === "queues" ? ["a 4"] : [] })
      })
  )

  it.live("namely all, does not prolong a hold that it does not know of", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      const txn = one.client.kv.txn
      one.client.kv.txn = async (...parameters) => {
        await txn.apply(one.client.kv, parameters)
        throw new Error("the reply is lost")
      }
      yield* Effect.flip(one.tries("a", 4, 4))
      one.client.kv.txn = txn
      yield* other.releases("a", 2)
      yield* other.tries("b", 2, 4)
      expect(yield* prolongsNothing(key, one, one.tries("a", 4, 4))).toBe(false)
      expect(yield* state).toEqual({ holders: ["a 2", "b 2"], line: [] })
    }))

  it.live("namely all, does not prolong its place", () =>
    Effect.gen(function*() {
      const { key, one, other, state } = yield* setting
      yield* other.tries("b", 4, 4)
      yield* one.queues("a", 2, 4)
      expect(yield* prolongsNothing(key, one, one.tries("a", 4, 4))).toBe(false)
      expect(yield* state).toEqual({ holders: ["b 4"], line: ["a 2"] })
    }))
})
