/** Two processes use one key on etcd. Something happens just before, between or after their requests. */
import { Context, Duration, Effect, Layer, Stream } from "effect"
import type { Etcd3, ITxnRequest } from "etcd3"
import { inject } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { connect } from "./etcd.ts"
import { until } from "./until.ts"

export const minute = Duration.minutes(1)

export const acquired = { _tag: "Acquired" }

let fresh = 0

export const freshKey = () => `races-${process.pid}-${fresh++}`

export const setting = Effect.gen(function*() {
  const key = freshKey()
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
      refreshes: (id: string) => backing.refresh(key, id, minute, 1, 1),
      /** Subscribes, waits until the subscription stands, and returns what is heard from then on. */
      listens: Effect.gen(function*() {
        const heard: Array<bigint | undefined> = []
        yield* Effect.forkScoped(
          Stream.runForEach(backing.onPermitsReleased!(key), (token) => Effect.sync(() => heard.push(token as never))),
          { startImmediately: true }
        )
        yield* until(Effect.sync(() => heard.length > 0))
        heard.splice(0)
        return heard
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

export type Process = Effect.Success<typeof setting>["one"]

type Kind = (request: ITxnRequest) => boolean

/** Matches requests that join the line. */
export const joins = (id: string): Kind => ({ success }) =>
  success?.some(({ request_put }) => request_put?.lease !== undefined && request_put.key?.includes(`/${id}/`)) ?? false

/** Matches requests that move to another lease. */
export const moves = (id: string): Kind => ({ success }) =>
  success?.some(({ request_txn }) =>
    request_txn?.success?.some(({ request_put }) => request_put?.key?.includes(`/${id}/`))
  )
    ?? false

/** Matches requests that release all permits, or some. */
export const leaves = (id: string): Kind => ({ success = [] }) => {
  const writes = success.filter(({ request_range }) => request_range === undefined)
  return writes.length === 1 &&
    writes.some(({ request_delete_range, request_put }) =>
      request_delete_range?.key?.includes(`/${id}/`) ||
      request_put?.ignore_lease && request_put.key?.includes(`/${id}/`)
    )
}

/** Runs an effect before the first request of a kind is sent. Returns the requests of that kind, to send them again. */
export const before = (client: Etcd3, kind: Kind, effect: Effect.Effect<unknown, unknown>) => {
  const txn = client.kv.txn.bind(client.kv)
  const seen: Array<ITxnRequest> = []
  client.kv.txn = async (request, options) => {
    if (kind(request) && seen.push(request) === 1) await Effect.runPromise(effect)
    return txn(request, options)
  }
  return seen
}

/** Returns how many keys each txn from now on has read, in the order of the answers. */
export const reads = (client: Etcd3): ReadonlyArray<number> => {
  const txn = client.kv.txn.bind(client.kv)
  const counts: Array<number> = []
  client.kv.txn = async (request, options) => {
    const answer = await txn(request, options)
    counts.push(answer.responses.reduce((sum, { response_range }) => sum + (response_range?.kvs.length ?? 0), 0))
    return answer
  }
  return counts
}

export const sum = (counts: ReadonlyArray<number>): number => counts.reduce((total, count) => total + count, 0)

/** Makes the first request of a kind fail before it is sent. Returns the requests of that kind, to send them later. */
export const delay = (client: Etcd3, kind: Kind) => before(client, kind, Effect.fail(new Error("no reply")))

/**
 * Sends the first request of a kind twice, as the client does when the reply is lost, and runs an effect in between.
 * Returns the requests of that kind.
 */
export const repeat = (client: Etcd3, kind: Kind, between: Effect.Effect<unknown, unknown>) => {
  const txn = client.kv.txn.bind(client.kv)
  const seen: Array<ITxnRequest> = []
  client.kv.txn = async (request, options) => {
    if (!kind(request) || seen.push(request) > 1) return txn(request, options)
    // The interceptors of the call see both attempts.
    for (const interceptor of options?.interceptors ?? []) {
      for (let attempt = 0; attempt < 2; attempt++) {
        interceptor({} as never, (() => ({ start: () => {} })) as never).start(undefined as never, undefined as never)
      }
    }
    await txn(request)
    await Effect.runPromise(between)
    return txn(request)
  }
  return seen
}

/** Returns the lease of each contender of a key. */
export const leasesOf = (client: Etcd3, key: string) =>
  Effect.map(
    Effect.promise(() => client.getAll().prefix(`semaphore/${key}/`).exec()),
    ({ kvs }) => new Map(kvs.map((kv) => [kv.key.toString().split("/").at(-2)!, kv.lease]))
  )

/** Gives a process a free lease, which is revoked just before its next renewal, after the request under way. */
export const withLeaseThatEnds = (one: Process, ttl = minute) =>
  Effect.gen(function*() {
    const unused = freshKey()
    yield* one.backing.tryAcquire(unused, "a", ttl, 1, 1)
    const ID = (yield* leasesOf(one.client, unused)).get("a")!
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
      const stream = await keepAlive(options)
      const write = stream.write.bind(stream)
      const ends = async () => {
        await underWay
        await leaseClient.leaseRevoke({ ID }).catch(() => {})
      }
      return Object.assign(stream, {
        write: (request: Parameters<typeof write>[0]) => {
          ends().then(() => write(request))
          return true
        }
      })
    }
    return ID
  })
