/** How soon a holder on Redis, or in a file of SQLite, hears that its hold was revoked. */
import { describe, it } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import { channels, connect, server } from "../utils/redis.ts"
import { interruptWithin100Millis } from "../utils/revocations.ts"
import { filename } from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"

const ttl = Duration.minutes(1)

describe("a hold that is revoked is interrupted within 100 ms, while others contend and keep the limit:", () => {
  it.live("on Redis", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const limit = 8
      const semaphores = yield* Effect.forEach(Array.from({ length: 4 }), () =>
        Effect.gen(function*() {
          const context = yield* Layer.build(RedisBacking.layer(yield* connect(url)))
          return yield* Effect.provide(DistributedSemaphore.make("key", { limit, ttl }), context)
        }))
      const observer = yield* connect(url)
      const listens = until(Effect.map(channels(observer), (all) => all.includes("semaphore:revocations")))
      yield* interruptWithin100Millis({ semaphores, limit, victims: 5, pauses: [1, 2, 3], listens })
    }))

  it.live("in a file of SQLite", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const limit = 4
      const semaphores = yield* Effect.forEach(Array.from({ length: 3 }), () =>
        Effect.gen(function*() {
          const context = yield* Layer.build(SqliteBacking.layer({ filename: file }))
          return yield* Effect.provide(DistributedSemaphore.make("key", { limit, ttl }), context)
        }))
      const listens = Effect.sleep("2500 millis")
      yield* interruptWithin100Millis({ semaphores, limit, victims: 3, pauses: [2, 3], listens })
    }))
})
