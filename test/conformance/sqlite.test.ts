import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { afterAll } from "vitest"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import { fewerRuns, runs } from "./runs.ts"

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "edl-sqlite-"))
afterAll(() => Fs.rmSync(folder, { recursive: true }))

const filename = Path.join(folder, "semaphores.sqlite")

/** Counts the rows of a semaphore. */
const rows = (key: string) => {
  const database = new DatabaseSync(filename)
  const of = (table: string) =>
    database.prepare(`select count(*) as count from ${table} where key = ?`).get(JSON.stringify(key))!.count as number
  const count = of("semaphores") + of("contenders")
  database.close()
  return count
}

backingSuite("SqliteBacking", {
  layer: SqliteBacking.layer({ filename }),
  capabilities: ["queue", "tokens", "push", "inspect", "partialRelease", "operators"],
  footprint: (key) => Effect.sync(() => rows(key)),
  // There is no server. The worst that can happen to the file is that it vanishes.
  restart: Effect.sync(() => {
    for (const suffix of ["", "-wal", "-shm"]) Fs.rmSync(filename + suffix)
  }),
  ...runs
})

backingSuite("SqliteBacking without notifications", {
  layer: SqliteBacking.layer({ filename, pushBasedAcquireEnabled: false }),
  capabilities: ["queue", "tokens", "inspect", "partialRelease"],
  ...fewerRuns
})
