import { Effect, Layer } from "effect"
import type { Redis } from "ioredis"
import { afterAll } from "vitest"
import { RedisBacking } from "../../src/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import { connect } from "../utils/redis.ts"
import { fewerRuns, runs } from "./runs.ts"

const server = await startOwn(stores.redis)
afterAll(() => server.stop())

/** Returns the Redis keys of a semaphore. */
const entries = (redis: Redis, key: string) => Effect.promise(() => redis.keys(`*${key}*`))

backingSuite("RedisBacking", {
  layer: Layer.unwrap(Effect.map(connect(server.url), (redis) => RedisBacking.layer(redis))),
  capabilities: ["queue", "tokens", "push", "inspect", "partialRelease", "operators"],
  footprint: (key) =>
    Effect.scoped(Effect.flatMap(connect(server.url), (redis) => entries(redis, key))).pipe(
      Effect.map(({ length }) => length)
    ),
  restart: Effect.promise(async () => {
    await server.kill()
    await server.restart()
  }),
  ...runs
})

backingSuite("RedisBacking without notifications", {
  layer: Layer.unwrap(
    Effect.map(connect(server.url), (redis) => RedisBacking.layer(redis, { pushBasedAcquireEnabled: false }))
  ),
  capabilities: ["queue", "tokens", "inspect", "partialRelease"],
  ...fewerRuns
})
