/** An etcd of a test's own, which counts what operations cost, by its own metrics. */
import { Effect, Layer, Scope } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import type { DistributedSemaphore } from "../../src/index.ts"
import { connect, metrics, server } from "./etcd.ts"

/** Starts a server, and builds the backing in so many processes. */
export const counted = (processes = 1) =>
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
export const growth = <A, E, R, E2, R2>(count: Effect.Effect<number, E, R>, effect: Effect.Effect<A, E2, R2>) =>
  Effect.gen(function*() {
    const before = yield* count
    yield* effect
    return (yield* count) - before
  })

/** Acquires a permit of each semaphore, many at the same time, until the scope closes. */
export const holds = (semaphores: ReadonlyArray<DistributedSemaphore.DistributedSemaphore>, scope: Scope.Scope) =>
  Effect.forEach(semaphores, (semaphore) => Scope.provide(semaphore.take(1), scope), {
    concurrency: 50,
    discard: true
  })
