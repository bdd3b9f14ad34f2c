import { Effect, Layer } from "effect"
import { Cluster } from "ioredis"
import { afterAll } from "vitest"
import { RedisBacking } from "../../src/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import * as RedisCluster from "../servers/redisCluster.ts"
import { runs } from "./runs.ts"

const cluster = await RedisCluster.start()
afterAll(() => cluster.stop())

const connect = Effect.acquireRelease(
  Effect.sync(() => new Cluster(cluster.ports.map((port) => ({ host: "127.0.0.1", port })))),
  (client) => Effect.sync(() => client.disconnect())
)

backingSuite("RedisBacking in a Cluster", {
  layer: Layer.unwrap(Effect.map(connect, (client) => RedisBacking.layer(client))),
  capabilities: ["queue", "tokens", "push", "inspect", "partialRelease", "operators"],
  ...runs
})
