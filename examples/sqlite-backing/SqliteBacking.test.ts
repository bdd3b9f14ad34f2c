import { backingSuite } from "effect-distributed-lock/testing"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
import * as SqliteBacking from "./SqliteBacking.ts"

const folder = mkdtempSync(join(tmpdir(), "semaphores-"))
afterAll(() => rmSync(folder, { recursive: true }))

backingSuite("SqliteBacking", {
  layer: SqliteBacking.layer(join(folder, "semaphores.sqlite")),
  capabilities: ["queue", "inspect", "partialRelease"],
  sequences: 50,
  histories: 20
})
