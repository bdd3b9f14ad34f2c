/** What a monitoring system sees: the text that Prometheus scrapes, what a collector gets, and the dashboard. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Random, References, Schedule } from "effect"
import { FetchHttpClient, HttpRouter } from "effect/http"
import { Otlp, PrometheusMetrics } from "effect/observability"
import { once } from "node:events"
import * as Fs from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import { DistributedSemaphore, Lease, MemoryBacking } from "../src/index.ts"
import { until } from "./utils/until.ts"

const docs = Path.resolve(import.meta.dirname, "..", "docs")
const prefix = "distributed_semaphore_"

/** Serves /metrics. Returns an effect that gets its text. */
const scrape = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => HttpRouter.toWebHandler(PrometheusMetrics.layerHttp(), { disableLogger: true })),
    ({ dispose }) => Effect.promise(dispose)
  ),
  ({ handler }) => Effect.promise(async () => (await handler(new Request("http://localhost/metrics"))).text())
)

/** Returns the sum of a metric's series for a key. */
const sumOf = (text: string, key: string) => (name: string) => {
  const lines = text.split("\n").filter((line) => line.startsWith(`${prefix}${name}{`) && line.includes(`key="${key}"`))
  expect(lines.length).toBeGreaterThan(0)
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0)
}

let keys = 0
const make = (limit: number) =>
  DistributedSemaphore.make(`observed-${keys++}`, { limit, ttl: "5 seconds", metricsByKey: true })

/** Asks for permits, and, by chance, works, gives up, is refused, or is revoked. */
const compete = (semaphore: DistributedSemaphore.DistributedSemaphore) =>
  Effect.gen(function*() {
    const permits = yield* Random.nextIntBetween(1, 4)
    const millis = yield* Random.nextIntBetween(5, 40)
    const chance = yield* Random.next
    const work = Effect.gen(function*() {
      yield* Effect.sleep(millis)
      const { identifier } = yield* Lease
      if (chance < 0.1) yield* Effect.andThen(semaphore.revoke(identifier), Effect.sleep("1 second"))
    })
    yield* chance > 0.8
      ? semaphore.withPermitsIfAvailable(permits)(work)
      : chance > 0.6
      ? Effect.timeout(semaphore.withPermits(permits)(work), Duration.millis(50))
      : semaphore.withPermits(permits)(work)
  }).pipe(Effect.ignore)

describe("Prometheus", () => {
  it.live("finds acquired = released + lost + held, and waiters, at every scrape of a contended semaphore", () =>
    Effect.gen(function*() {
      const get = yield* scrape
      const semaphore = yield* make(5)
      const workers = yield* Effect.forEach(
        Array.from({ length: 12 }),
        () => Effect.forkChild(Effect.repeat(compete(semaphore), Schedule.recurs(60)))
      )
      let scrapes = 0
      let waited = 0
      while (workers.some((worker) => worker.pollUnsafe() === undefined)) {
        const sum = sumOf(yield* get, semaphore.key)
        scrapes++
        expect(sum("permits_acquired_total")).toBe(
          sum("permits_released_total") + sum("permits_lost_total") + sum("permits_held")
        )
        expect(sum("waiters")).toBeLessThanOrEqual(12)
        if (sum("waiters") > 0) waited++
        yield* Effect.sleep("20 millis")
      }
      yield* Fiber.joinAll(workers)

      const sum = sumOf(yield* get, semaphore.key)
      expect([scrapes > 20, waited > 10]).toEqual([true, true])
      expect([sum("permits_held"), sum("waiters")]).toEqual([0, 0])
      expect(yield* semaphore.currentCount).toBe(0)
      for (const name of ["permits_acquired_total", "permits_lost_total", "permits_refused_total"]) {
        expect(sum(name)).toBeGreaterThan(0)
      }
      expect(sum("acquire_seconds_count")).toBeGreaterThan(200)
    }).pipe(Effect.provide(MemoryBacking.layer), Effect.provideService(References.MinimumLogLevel, "Error")))

  it.live("finds the exact numbers of held permits and of waiters", () =>
    Effect.gen(function*() {
      const get = yield* scrape
      const semaphore = yield* make(5)
      const start = (permits: number) => Effect.forkChild(semaphore.withPermits(permits)(Effect.never))
      const fibers = [yield* start(3), yield* start(3), yield* start(1)]
      yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 2))
      const sum = sumOf(yield* get, semaphore.key)
      expect([sum("permits_held"), sum("waiters"), sum("acquire_seconds_count")]).toEqual([3, 2, 1])
      yield* Fiber.interruptAll(fibers)
      const after = sumOf(yield* get, semaphore.key)
      expect([after("permits_held"), after("waiters")]).toEqual([0, 0])
    }).pipe(Effect.provide(MemoryBacking.layer)))
})

describe("an OpenTelemetry collector", () => {
  it.live("gets the metrics and the spans", () =>
    Effect.gen(function*() {
      const received: Record<string, string> = {}
      const server = createServer((request, response) => {
        let body = ""
        request.on("data", (chunk) => body += chunk)
        request.on("end", () => {
          received[request.url!] = (received[request.url!] ?? "") + body
          response.end("{}")
        })
      })
      yield* Effect.acquireRelease(
        Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening")),
        () => Effect.sync(() => server.close())
      )
      const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      const collector = Otlp.layerJson({ baseUrl, resource: { serviceName: "test" } }).pipe(
        Layer.provide(FetchHttpClient.layer)
      )
      // It sends what it has when its scope closes.
      const semaphore = yield* make(2).pipe(
        Effect.tap((semaphore) => semaphore.withPermits(2, { identifier: "me" })(Effect.void)),
        Effect.provide(collector)
      )
      for (const name of ["permits_acquired_total", "permits_held", "waiters", "acquire_seconds"]) {
        expect(received["/v1/metrics"]).toContain(`"${prefix}${name}"`)
      }
      for (const text of ["DistributedSemaphore.take", "DistributedSemaphore.release", semaphore.key, "\"me\""]) {
        expect(received["/v1/traces"]).toContain(text)
      }
    }).pipe(Effect.provide(MemoryBacking.layer)))
})

describe("the documentation", () => {
  const named = (text: string) => new Set(text.match(/\bdistributed_semaphore_\w+/g))
  const read = (file: string) => Fs.readFileSync(Path.join(docs, file), "utf8")

  const exported = Effect.gen(function*() {
    const semaphore = yield* make(1)
    yield* semaphore.withPermit(Effect.void)
    const text = yield* yield* scrape
    return {
      metrics: new Set(Array.from(text.matchAll(/^# TYPE (distributed_semaphore_\w+)/gm), ([, name]) => name)),
      series: named(text)
    }
  }).pipe(Effect.provide(MemoryBacking.layer))

  it.live("has a dashboard that queries exported metrics only, and draws all of them", () =>
    Effect.gen(function*() {
      const { metrics, series } = yield* exported
      const text = read("grafana-dashboard.json")
      const { panels } = JSON.parse(text) as { panels: ReadonlyArray<{ targets: ReadonlyArray<{ expr: string }> }> }
      const drawn = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
      expect(Array.from(named(text)).filter((name) => !series.has(name))).toEqual([])
      for (const name of metrics) expect(drawn.filter((expr) => expr.includes(name!))).not.toEqual([])
    }))

  it.live("says what every metric means, and names no other", () =>
    Effect.gen(function*() {
      const { metrics, series } = yield* exported
      const page = read("operating.md")
      const explained = new Set(Array.from(page.matchAll(/^\| `(distributed_semaphore_\w+)`/gm), ([, name]) => name))
      expect(explained).toEqual(metrics)
      expect(Array.from(named(page)).filter((name) => !series.has(name))).toEqual([])
    }))
})
