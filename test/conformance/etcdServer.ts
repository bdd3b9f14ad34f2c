/** The options of the suite for EtcdBacking, and a server of its own for a test file. */
import { noop } from "cockatiel"
import { Effect } from "effect"
import { afterAll } from "vitest"
import * as Names from "../../src/backings/etcd/names.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import { connect } from "../utils/etcd.ts"
import { runs } from "./runs.ts"
import { inTurn } from "./sharedClients.ts"

export const options = {
  capabilities: ["queue", "tokens", "push", "inspect", "partialRelease", "operators"],
  smallestTtl: "2 seconds",
  granularity: "1 second",
  standsLater: true,
  ...runs,
  // They spend most of their time waiting for leases of two seconds and more: so no more of them than the suite runs at once.
  sequences: runs.sequences / 8,
  histories: runs.histories / 2
} as const

export const start = async () => {
  const server = await startOwn(stores.etcd)
  afterAll(() => server.stop())
  const client = await inTurn(connect(server.url, { faultHandling: { host: () => noop } }))
  const restart = Effect.promise(async () => {
    await server.kill()
    await server.restart()
  })
  const footprint = (key: string) =>
    Effect.gen(function*() {
      const etcd = yield* client
      const { count } = yield* Effect.promise(() =>
        etcd.kv.range({ ...Names.semaphore("semaphore/", key).all, count_only: true })
      )
      return Number(count)
    })
  return { client, options: { ...options, restart, footprint } }
}
