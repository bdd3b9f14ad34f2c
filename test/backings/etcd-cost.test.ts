/** What operations cost etcd, counted by its own metrics. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, metrics, server } from "../utils/etcd.ts"
import { until } from "../utils/until.ts"

/** Starts a server, and builds the backing in so many processes. */
const counted = (processes = 1) =>
  Effect.gen(function*() {
    const { url } = yield* server
    const contexts = yield* Effect.forEach(
      Array.from({ length: processes }),
      () => Effect.flatMap(connect(url), (client) => Layer.build(EtcdBacking.layer(client)))
    )
    const proposals = Effect.map(metrics(url), (all) => all.etcd_server_proposals_applied_total!)
    const messages = (condition: (metric: string) => boolean) =>
      Effect.map(metrics(url), (all) =>
        Object.entries(all).reduce(
          (sum, [metric, value]) =>
            metric.startsWith("grpc_server_msg_received_total") && condition(metric) ? sum + value : sum,
          0
        ))
    return {
      context: contexts[0]!,
      contexts,
      url,
      proposals,
      txns: messages((metric) => metric.includes("\"Txn\"")),
      keepAlives: messages((metric) => metric.includes("\"LeaseKeepAlive\"")),
      /** Counts requests of all kinds, and each message of a stream. */
      requests: messages(() => true),
      watchers: Effect.map(metrics(url), (all) => all.etcd_debugging_mvcc_watcher_total!)
    }
  })

/** Returns by how much a count grows while an effect runs. */
const growth = <A, E, R, E2, R2>(count: Effect.Effect<number, E, R>, effect: Effect.Effect<A, E2, R2>) =>
  Effect.gen(function*() {
    const before = yield* count
    yield* effect
    return (yield* count) - before
  })

const cycles = 100

/** Acquires a permit of each semaphore, many at the same time, until the scope closes. */
const holds = (semaphores: ReadonlyArray<DistributedSemaphore.DistributedSemaphore>, scope: Scope.Scope) =>
  Effect.forEach(semaphores, (semaphore) => Scope.provide(semaphore.take(1), scope), {
    concurrency: 50,
    discard: true
  })

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

/** They wait more than they work, each with a server of its own. */
describe("a thousand idle", { concurrent: true }, () => {
  const intervals = 3

  /** Contenders that are refreshed together share their leases by and by: then nothing is written any more. */
  const idle = Effect.fnUntraced(function*({ proposals, requests }: Effect.Success<ReturnType<typeof counted>>) {
    const seen: Array<readonly [written: number, asked: number]> = []
    yield* until(
      Effect.gen(function*() {
        const written = yield* proposals
        const cpu = process.cpuUsage()
        const asked = yield* growth(requests, Effect.sleep(Duration.seconds(intervals)))
        const { system, user } = process.cpuUsage(cpu)
        seen.push([(yield* proposals) - written, asked / intervals])
        const percent = (user + system) / intervals / 10_000
        console.log(`${seen.at(-1)![0]} writes, ${asked / intervals} messages and ${percent} % of a core`)
        return seen.at(-1)![0] === 0 && seen.at(-1)![1] <= 20
      }),
      "90 seconds"
    )
  })

  // Refreshes are as frequent as with a ttl of 3 seconds, but an overloaded machine loses no lease.
  const options = { ttl: "30 seconds", refreshInterval: "1 second", limit: 1000 } as const

  it.live(
    "holds of one key write nothing, and cost at most 20 messages per refreshInterval",
    () =>
      Effect.gen(function*() {
        const counts = yield* counted()
        const semaphore = yield* Effect.provide(DistributedSemaphore.make("key", options), counts.context)
        const scope = yield* Effect.scope
        const [took] = yield* Effect.timed(holds(Array.from({ length: 1000 }, () => semaphore), scope))
        console.log(`1000 holds of one key after ${Duration.format(took)}`)
        expect(yield* semaphore.currentCount).toBe(1000)
        yield* idle(counts)
      }),
    150_000
  )

  it.live(
    "holds of a thousand keys write nothing, and cost at most 20 messages per refreshInterval",
    () =>
      Effect.gen(function*() {
        const counts = yield* counted()
        const scope = yield* Effect.scope
        const semaphores = yield* Effect.forEach(
          Array.from({ length: 1000 }),
          (_, index) => Effect.provide(DistributedSemaphore.make(`key ${index}`, options), counts.context)
        )
        yield* holds(semaphores, scope)
        yield* idle(counts)
      }),
    150_000
  )

  it.live("waiters write nothing, and cost at most 20 messages per refreshInterval", () =>
    Effect.gen(function*() {
      const counts = yield* counted()
      const mutex = yield* Effect.provide(DistributedSemaphore.make("key", { ...options, limit: 1 }), counts.context)
      yield* mutex.take(1)
      for (let i = 0; i < 1000; i++) {
        yield* Effect.forkScoped(mutex.withPermits(1)(Effect.void))
        if (i % 10 === 0) yield* Effect.sleep("10 millis")
      }
      yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1000))
      yield* idle(counts)
    }), 150_000)
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
