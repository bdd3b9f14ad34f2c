import { noop } from "cockatiel"
import { Effect, Layer } from "effect"
import { afterAll } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import * as Names from "../../src/backings/etcd/names.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import { connect } from "../utils/etcd.ts"
import { runs } from "./runs.ts"
import { backingSuite } from "./telling/index.ts"

const server = await startOwn(stores.etcd)
afterAll(() => server.stop())

const client = connect(server.url, { faultHandling: { host: () => noop } })

backingSuite("EtcdBacking", {
  layer: Layer.unwrap(Effect.map(client, (etcd) => EtcdBacking.layer(etcd))),
  capabilities: ["queue", "tokens", "push", "inspect", "partialRelease"],
  smallestTtl: "2 seconds",
  granularity: "1 second",
  restart: Effect.promise(async () => {
    await server.kill()
    await server.restart()
  }),
  footprint: (key) =>
    Effect.scoped(Effect.gen(function*() {
      const etcd = yield* client
      const { count } = yield* Effect.promise(() =>
        etcd.kv.range({ ...Names.semaphore("semaphore/", key).all, count_only: true })
      )
      return Number(count)
    })),
  ...runs
})
