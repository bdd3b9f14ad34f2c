/** Files of semaphores for tests, and processes that use them. */
import { Effect, Stream } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { DistributedSemaphoreBacking, FencingToken } from "../../src/index.ts"
import { startProcess } from "./process.ts"
import { until } from "./until.ts"

/** A folder that is removed when the scope closes. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "edl-sqlite-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

/** The path of a file that does not exist yet. */
export const filename = Effect.map(folder, (path) => Path.join(path, "semaphores.sqlite"))

/** Counts the rows of semaphores and contenders. */
export const rows = (filename: string): number => {
  const database = new DatabaseSync(filename)
  try {
    const { count } = database.prepare(
      "select (select count(*) from semaphores) + (select count(*) from contenders) as count"
    ).get()!
    return count as number
  } finally {
    database.close()
  }
}

/** Subscribes to a key. Returns the tokens of the grants that are heard from then on. */
export const grants = (backing: DistributedSemaphoreBacking, key: string) =>
  Effect.gen(function*() {
    const tokens: Array<FencingToken> = []
    let stands = false
    yield* Effect.forkScoped(
      Stream.runForEach(backing.onPermitsReleased!(key), (event) =>
        Effect.sync(() => {
          if (event === undefined) stands = true
          else tokens.push(event)
        })),
      { startImmediately: true }
    )
    yield* until(Effect.sync(() => stands))
    return tokens
  })

/** Starts `sqliteProcess.ts`: what it does, the file, and more arguments. It is killed when the scope closes. */
export const start = (what: string, filename: string, ...args: ReadonlyArray<string | number>) =>
  startProcess("sqliteProcess.ts", what, filename, ...args)
