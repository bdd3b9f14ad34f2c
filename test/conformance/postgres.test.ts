import { PgClient } from "@effect/sql-pg"
import { Effect, Exit, Layer, Scope } from "effect"
import { afterAll } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import { connect } from "../utils/postgres.ts"
import { runs } from "./runs.ts"

const server = await startOwn(stores.postgres)
const scope = Scope.makeUnsafe()
afterAll(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  await server.stop()
})

/**
 * The instances of all cases use three clients in turn. Each with a client of its own, they would cost the server a thousand processes,
 * which took most of the time.
 */
const clients = await Effect.runPromise(
  Effect.forEach([1, 2, 3], () => connect(server.url, { maxConnections: 30 })).pipe(Scope.provide(scope))
)
let turn = 0
const client = Layer.sync(PgClient.PgClient, () => clients[turn++ % clients.length]!)

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
