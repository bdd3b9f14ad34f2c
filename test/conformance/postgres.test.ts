import { PgClient } from "@effect/sql-pg"
import { Effect, Layer } from "effect"
import { afterAll } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import { connect } from "../utils/postgres.ts"
import { runs } from "./runs.ts"
import { inTurn } from "./sharedClients.ts"

const server = await startOwn(stores.postgres)
afterAll(() => server.stop())

const client = Layer.effect(PgClient.PgClient, await inTurn(connect(server.url, { maxConnections: 30 })))

backingSuite("PostgresBacking", {
  layer: PostgresBacking.layer().pipe(Layer.provide(client)),
  capabilities: ["queue", "tokens", "push", "inspect", "partialRelease", "operators"],
  restart: Effect.promise(async () => {
    await server.kill()
    await server.restart()
  }),
  // Expired rows are swept only later. Here, they are swept at once.
  footprint: (key) =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`select effect_distributed_lock.sweep('0 seconds')`
      const rows = yield* sql`select from effect_distributed_lock.semaphores where name = ${JSON.stringify(key)}`
      return rows.length
    }).pipe(Effect.provide(client)),
  ...runs
})
