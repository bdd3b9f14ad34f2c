import { Effect, Layer } from "effect"
import { afterAll } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import { connect } from "../utils/etcd.ts"
import { runs } from "./runs.ts"

const server = await startOwn(stores.etcd)
afterAll(() => server.stop())

backingSuite("EtcdBacking", {
  layer: Layer.unwrap(Effect.map(connect(server.url), (client) => EtcdBacking.layer(client))),
  capabilities: ["queue", "tokens", "push", "inspect", "partialRelease"],
  smallestTtl: "2 seconds",
  granularity: "1 second",
  ...runs
})
