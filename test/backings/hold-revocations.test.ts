/** How soon a holder on Redis, or in a file of SQLite, hears that its hold was revoked. */
import { describe, it } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import { channels, connect, server } from "../utils/redis.ts"
import { interruptWithin100Millis } from "../utils/revocations.ts"
import { filename } from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"

/** Makes the same semaphore in several processes. */
const inProcesses = <R>(
  count: number,
  limit: number,
  layer: Effect.Effect<Layer.Layer<DistributedSemaphoreBacking, unknown>, unknown, R>
) =>
  Effect.forEach(Array.from({ length: count }), () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(Layer.fresh(yield* layer))
      return yield* Effect.provide(DistributedSemaphore.make("key", { limit, ttl: Duration.minutes(1) }), context)
    }))

describe("a hold that is revoked is interrupted within 100 ms, while others contend and keep the limit:", () => {
  it.live("on Redis", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const limit = 8
      const semaphores = yield* inProcesses(4, limit, Effect.map(connect(url), (redis) => RedisBacking.layer(redis)))
      const observer = yield* connect(url)
      const listens = until(Effect.map(channels(observer), (all) => all.includes("semaphore:revocations")))
      yield* interruptWithin100Millis({ semaphores, limit, victims: 5, pauses: [1, 2, 3], listens })
    }))

  it.live("in a file of SQLite", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const limit = 4
      const layer = Effect.sync(() => SqliteBacking.layer({ filename: file }))
      const semaphores = yield* inProcesses(3, limit, layer)
      const listens = Effect.sleep("2500 millis")
      yield* interruptWithin100Millis({ semaphores, limit, victims: 3, pauses: [2, 3], listens })
    }))
})
