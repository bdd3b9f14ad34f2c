/** A crowd on one key. `CROWD=2500` lets so many wait in each of the four processes. */
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, server } from "../utils/etcd.ts"
import { startProcess } from "../utils/process.ts"
import { until } from "../utils/until.ts"

const crowd = Number(process.env.CROWD ?? 150)
const processes = 4

interface Report {
  readonly holds: ReadonlyArray<readonly [nanos: string, token: string]>
  readonly failures: number
}

it.live("all waiters of four processes stand in one line, and hold in its order", () =>
  Effect.gen(function*() {
    const { url } = yield* server
    const client = yield* connect(url)
    const context = yield* Layer.build(EtcdBacking.layer(client))
    const { take } = yield* Effect.provide(DistributedSemaphore.make("crowd", { ttl: "60 seconds" }), context)
    const holder = yield* Scope.make()
    yield* Scope.provide(take(1), holder)
    const started = yield* Effect.forEach(
      Array.from({ length: processes }),
      () => startProcess("etcdCrowd.ts", url, crowd)
    )
    const keys = Effect.promise(() => client.getAll().prefix("semaphore/crowd/").keys())
    yield* until(Effect.map(keys, ({ length }) => length === 1 + processes * crowd), "2 minutes")
    yield* Scope.close(holder, Exit.void)
    const reports: ReadonlyArray<Report> = yield* Effect.forEach(started, ({ hears }) => hears, {
      concurrency: "unbounded"
    })
    expect(reports.map(({ failures }) => failures)).toEqual(started.map(() => 0))
    const holds = reports.flatMap(({ holds }) => holds.map(([nanos, token]) => [BigInt(nanos), BigInt(token)] as const))
    const by = (index: 0 | 1) => holds.toSorted((a, b) => a[index] < b[index] ? -1 : 1)
    expect(holds.length).toBe(processes * crowd)
    expect(by(0)).toEqual(by(1))
  }), 300_000)
