/** A cluster of three etcd members, one of which is killed, or cut off from the others. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Schedule } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore, Lease } from "../../src/index.ts"
import * as EtcdCluster from "../servers/etcdCluster.ts"
import { connect, keys } from "../utils/etcd.ts"
import { longestStall } from "../utils/stall.ts"
import { until } from "../utils/until.ts"

const cluster = Effect.acquireRelease(
  Effect.promise(() => EtcdCluster.start()),
  (cluster) => Effect.promise(() => cluster.stop())
)

const backing = (hosts: string | Array<string>) =>
  Effect.flatMap(connect(hosts), (client) => Layer.build(EtcdBacking.layer(client)))

const now = Effect.sync(() => performance.now())

/** When a worker acquired its permits, and when it stopped using them, in milliseconds. */
interface Use {
  readonly start: number
  end: number
  readonly token: bigint
}

/** Returns how many of the uses overlap at most. */
const mostAtOnce = (uses: ReadonlyArray<Use>) => {
  const changes = uses.flatMap(({ end, start }) => [[start, 1], [end, -1]] as const)
  let out = 0
  let most = 0
  for (const [, change] of changes.toSorted(([a, x], [b, y]) => a - b || x - y)) most = Math.max(most, out += change)
  return most
}

describe("a leader that is killed and restarted again and again under load", () => {
  it.live(
    "endangers neither the limit nor the tokens, and work goes on after each election",
    () =>
      Effect.gen(function*() {
        const { leader, urls } = yield* cluster
        const uses: Array<Use> = []
        const running = { value: true }
        const workers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (let process = 0; process < 3; process++) {
          const context = yield* backing(urls)
          const make = DistributedSemaphore.make("load", { limit: 2, ttl: "3 seconds" })
          const semaphore = yield* Effect.provide(make, context)
          const work = Effect.flatMap(Lease, ({ fencingToken }) =>
            Effect.acquireUseRelease(
              Effect.sync(() => {
                const use = { start: performance.now(), end: Infinity, token: Option.getOrThrow(fencingToken) }
                uses.push(use)
                return use
              }),
              () => Effect.sleep("30 millis"),
              (use) => Effect.sync(() => void (use.end = performance.now()))
            ))
          const worker = Effect.gen(function*() {
            while (running.value) yield* Effect.exit(semaphore.withPermits(1)(work))
          })
          for (let i = 0; i < 5; i++) workers.push(yield* Effect.forkScoped(worker))
        }

        const delays: Array<number> = []
        for (let round = 0; round < 4; round++) {
          const before = uses.length
          yield* until(Effect.sync(() => uses.length > before + 60), "20 seconds")
          const killed = yield* Effect.promise(leader)
          yield* Effect.promise(killed.kill)
          yield* Effect.promise(leader)
          const elected = yield* now
          yield* until(Effect.sync(() => uses.some(({ start }) => start > elected)), "10 seconds")
          delays.push(uses.find(({ start }) => start > elected)!.start - elected)
          yield* Effect.promise(killed.restart)
        }
        running.value = false
        yield* Effect.timeout(Fiber.awaitAll(workers), "20 seconds")

        console.log(
          `${uses.length} acquisitions; the first after each election: ${delays.map(Math.round).join(", ")} ms`
        )
        expect(Math.max(...delays)).toBeLessThan(5000)
        expect(mostAtOnce(uses)).toBe(2)
        expect(new Set(uses.map(({ token }) => token)).size).toBe(uses.length)
        const observer = yield* connect(urls)
        yield* until(Effect.map(keys(observer), (names) => names.length === 0))
      }),
    180_000
  )
})

describe.each(["leader", "follower"] as const)(
  "while a %s is cut off from the others",
  { concurrent: true },
  (role) => {
    it.live(
      "a holder that uses it is interrupted before others acquire; waiters that use it acquire afterwards",
      () =>
        Effect.gen(function*() {
          const { heal, isolate, leader, members, urls } = yield* cluster
          const first = yield* Effect.promise(leader)
          const minority = role === "leader" ? first : members.find((member) => member !== first)!
          const majority = urls.filter((url) => url !== minority.url)
          const make = DistributedSemaphore.make("key", {
            ttl: "4 seconds",
            backingFailureRetryPolicy: Schedule.spaced("100 millis")
          })
          const inside = yield* Effect.provide(make, yield* backing(minority.url))
          const outside = yield* Effect.provide(make, yield* backing(majority))

          let stopped = 0
          const work = Effect.onExit(Effect.never, () => Effect.map(now, (time) => void (stopped = time)))
          const holder = yield* Effect.forkScoped(Effect.flip(inside.withPermits(1)(work)))
          yield* until(Effect.map(inside.currentCount, (count) => count === 1))
          const waiters = yield* Effect.forEach(
            ["a", "b"],
            (identifier) => Effect.forkScoped(inside.withPermits(1, { identifier })(Effect.succeed(identifier)))
          )
          yield* until(Effect.map(inside.inspect, ({ line }) => line.length === 2))
          const later = yield* Effect.forkScoped(outside.withPermits(1)(now))
          yield* until(Effect.map(inside.inspect, ({ line }) => line.length === 3))
          // The cut comes after the first refresh.
          yield* Effect.sleep("2 seconds")

          isolate(minority)
          const stall = yield* longestStall
          const cut = yield* now
          expect(yield* Fiber.join(holder)).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
          expect(stopped - cut - (yield* stall)).toBeLessThan(4000)
          // The etcd leases of the hold and of the places end at different times: a new leader gives each a full ttl.
          const went = yield* Effect.timeout(Fiber.join(later), "20 seconds")
          expect(went).toBeGreaterThan(stopped)

          heal()
          expect(yield* Effect.timeout(Fiber.joinAll(waiters), "20 seconds")).toEqual(["a", "b"])
          const observer = yield* connect(urls)
          yield* until(Effect.map(keys(observer), (names) => names.length === 0))
        }),
      90_000
    )
  }
)
