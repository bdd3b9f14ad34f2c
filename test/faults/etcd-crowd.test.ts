/** A crowd on one key. `CROWD=2500` lets so many wait in each of the four processes. */
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { fork } from "node:child_process"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { connect, server } from "../utils/etcd.ts"
import { until } from "../utils/until.ts"

const crowd = Number(process.env.CROWD ?? 250)
const processes = 4

interface Report {
  readonly holds: ReadonlyArray<readonly [nanos: string, token: string]>
  readonly failures: number
}

const start = (url: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = fork(new URL("../utils/etcdCrowd.ts", import.meta.url), [url, String(crowd)], {
        execArgv: ["--disable-warning=ExperimentalWarning"]
      })
      return {
        child,
        report: new Promise<Report>((resolve, reject) => {
          child.once("message", (report) => resolve(report as Report))
          child.once("exit", () => reject(new Error("a process of the crowd ended without a report")))
        })
      }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

it.live("all waiters of four processes stand in one line, and hold in its order", () =>
  Effect.gen(function*() {
    const { url } = yield* server
    const client = yield* connect(url)
    const context = yield* Layer.build(EtcdBacking.layer(client))
    const { take } = yield* Effect.provide(DistributedSemaphore.make("crowd", { ttl: "60 seconds" }), context)
    const holder = yield* Scope.make()
    yield* Scope.provide(take(1), holder)
    const started = yield* Effect.forEach(Array.from({ length: processes }), () => start(url))
    const keys = Effect.promise(() => client.getAll().prefix("semaphore/crowd/").keys())
    yield* until(Effect.map(keys, ({ length }) => length === 1 + processes * crowd), "2 minutes")
    yield* Scope.close(holder, Exit.void)
    const reports = yield* Effect.promise(() => Promise.all(started.map(({ report }) => report)))
    expect(reports.map(({ failures }) => failures)).toEqual(started.map(() => 0))
    const holds = reports.flatMap(({ holds }) => holds.map(([nanos, token]) => [BigInt(nanos), BigInt(token)] as const))
    const by = (index: 0 | 1) => holds.toSorted((a, b) => a[index] < b[index] ? -1 : 1)
    expect(holds.length).toBe(processes * crowd)
    expect(by(0)).toEqual(by(1))
  }), 300_000)
