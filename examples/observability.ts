/**
 * Shows what a semaphore does. Prometheus finds its metrics at /metrics; with OTLP_URL set, a collector gets metrics, spans and
 * logs. Eight workers compete for three permits meanwhile, and an operator takes some of them away.
 */
import { Duration, Effect, Layer } from "effect"
import { DistributedSemaphore, Lease, MemoryBacking } from "effect-distributed-lock"
import { FetchHttpClient } from "effect/http"
import { Otlp, PrometheusMetrics } from "effect/observability"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** Serves the metrics of this process. An application with an HttpRouter has `PrometheusMetrics.layerHttp()` for this. */
const Prometheus = Layer.effectDiscard(Effect.gen(function*() {
  const context = yield* Effect.context<never>()
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8")
    response.end(PrometheusMetrics.formatUnsafe(context))
  })
  yield* Effect.acquireRelease(
    Effect.promise(() => once(server.listen(Number(process.env.METRICS_PORT ?? 0), "127.0.0.1"), "listening")),
    () => Effect.sync(() => server.close())
  )
  yield* Effect.log(`metrics: http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`)
}))

/** Sends metrics, spans and logs to a collector, such as http://127.0.0.1:4318. */
const OpenTelemetry = process.env.OTLP_URL === undefined
  ? Layer.empty
  : Otlp.layerJson({ baseUrl: process.env.OTLP_URL, resource: { serviceName: "observability-example" } }).pipe(
    Layer.provide(FetchHttpClient.layer)
  )

const program = Effect.gen(function*() {
  // The metrics name the key, because there is only one.
  const gpus = yield* DistributedSemaphore.make("gpus", { limit: 3, ttl: "10 seconds", metricsByKey: true })

  const job = Effect.gen(function*() {
    const { identifier } = yield* Lease
    yield* Effect.sleep(Duration.millis(20 + Math.random() * 60))
    if (Math.random() < 0.1) yield* Effect.andThen(gpus.revoke(identifier), Effect.sleep("1 second"))
  }).pipe(gpus.withPermit, Effect.withSpan("job"), Effect.catchTag("LockLostError", () => Effect.void))

  const seconds = Number(process.env.SECONDS ?? 2)
  yield* Effect.all(Array.from({ length: 8 }, () => Effect.forever(job)), { concurrency: "unbounded" }).pipe(
    Effect.timeoutOption(Duration.seconds(seconds))
  )
  yield* Effect.log(yield* PrometheusMetrics.format())
})

await program.pipe(Effect.provide([MemoryBacking.layer, Prometheus, OpenTelemetry]), Effect.runPromise)
