/** What is particular to SQLite: the file, what can be wrong with it, and the clock. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Context, Duration, Effect, Exit, Layer } from "effect"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { promisify } from "node:util"
import { make } from "../../src/backings/sqlite/backing.ts"
import { Clock } from "../../src/backings/sqlite/clock.ts"
import type { Sqlite } from "../../src/backings/sqlite/connection.ts"
import { Connection, isBusy } from "../../src/backings/sqlite/connection.ts"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import type { Machine } from "../../src/backings/sqlite/machine.ts"
import { thisMachine } from "../../src/backings/sqlite/machine.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { filename, folder, grants } from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"

const build = (filename: string) => Effect.exit(Effect.scoped(Layer.build(SqliteBacking.layer({ filename }))))

/** Builds the layer, which must fail, and returns the message of the error. */
const failure = (filename: string) =>
  Effect.map(Effect.flip(Effect.scoped(Layer.build(SqliteBacking.layer({ filename })))), (error) => {
    expect(error._tag).toBe("SemaphoreBackingError")
    return error.message
  })

const on = (machine: Partial<Machine>, filename: string) =>
  Layer.effect(DistributedSemaphoreBacking, make({ filename }, { ...thisMachine(), ...machine }))

const [minute, second] = [60_000_000, 1_000_000]

describe("SqliteBacking refuses", () => {
  it.live.each(["", ":memory:", "file::memory:?cache=shared", "a\0b"])(
    "the filename %j, which is no path",
    (name) =>
      Effect.gen(function*() {
        const exit = yield* build(name)
        const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        expect(error).toBeInstanceOf(Cause.IllegalArgumentError)
        expect((error as Error).message).toContain("filename")
      })
  )

  it.live("a file that is no database, and leaves it as it is", () =>
    Effect.gen(function*() {
      const file = yield* filename
      Fs.writeFileSync(file, "no database ".repeat(100))
      expect(yield* failure(file)).toContain("file is not a database")
      expect(Fs.readFileSync(file, "utf8")).toBe("no database ".repeat(100))
    }))

  it.live("a database of something else, and one of a later version", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const database = new DatabaseSync(file)
      database.exec("create table invoices (id)")
      database.close()
      expect(yield* failure(file)).toContain("a database of something else")
      const other = yield* filename
      yield* build(other)
      const later = new DatabaseSync(other)
      later.exec("pragma user_version = 99")
      later.close()
      expect(yield* failure(other)).toContain("has version 99")
    }))

  it.live("a folder that does not exist", () =>
    Effect.gen(function*() {
      expect(yield* failure(Path.join(yield* folder, "missing", "file.sqlite"))).toContain("ENOENT")
    }))

  it.live("a network file system", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const error = yield* Effect.flip(Effect.scoped(Layer.build(on({ fileSystem: () => 0x6969 }, file))))
      expect(error.message).toContain("network file system (NFS)")
      expect(Fs.existsSync(file)).toBe(false)
    }))

  it.live(
    "a Node without SQLite, and says which it needs; the import itself does not fail",
    () =>
      Effect.gen(function*() {
        const source = new URL("../../src/backings/sqlite/index.ts", import.meta.url).href
        const program = `
        import { Effect, Layer } from "effect"
        import { SqliteBacking } from ${JSON.stringify(source)}
        const exit = await Effect.runPromiseExit(Effect.scoped(Layer.build(SqliteBacking.layer({ filename: "never.sqlite" }))))
        console.log(String(exit))`
        const args = ["--no-experimental-sqlite", "--input-type=module", "-e", program]
        const { stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, args))
        expect(stdout).toContain("SqliteBacking needs Node 22.13 or later")
      }),
    180_000
  )
})

it.live("layerConfig reads the options from the configuration", () =>
  Effect.gen(function*() {
    const file = yield* filename
    yield* Layer.build(SqliteBacking.layerConfig({ filename: Config.String("FILE") })).pipe(
      Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ FILE: file })))
    )
    expect(Fs.existsSync(file)).toBe(true)
  }))

it.live.each([1, 2, 3, 4, 5, 6, 7])(
  "a process opens the file although another creates it meanwhile, before step %i",
  (step) =>
    Effect.gen(function*() {
      const file = yield* filename
      const clock = new Clock(thisMachine())
      const open = (sqlite: Pick<Sqlite, "DatabaseSync">) => new Connection(sqlite as Sqlite, file, clock).close()
      let steps = 0
      class Racing extends DatabaseSync {
        override prepare(sql: string) {
          try {
            if (++steps === step) open({ DatabaseSync })
          } catch (error) {
            if (!isBusy(error)) throw error
          }
          return super.prepare(sql)
        }
      }
      open({ DatabaseSync: Racing })
    })
)

it.live("a process without notifications notifies the waiters of others of grants", () =>
  Effect.gen(function*() {
    const file = yield* filename
    const backing = (pushBasedAcquireEnabled: boolean) =>
      Effect.map(
        Layer.build(SqliteBacking.layer({ filename: file, pushBasedAcquireEnabled })),
        Context.get(DistributedSemaphoreBacking)
      )
    const [waiting, polling] = [yield* backing(true), yield* backing(false)]
    const ttl = Duration.minutes(1)
    yield* polling.tryAcquire("key", "holder", ttl, 1, 1)
    const heard = yield* grants(waiting, "key")
    const place = yield* waiting.tryAcquire("key", "waiter", ttl, 1, 1, { queue: true })
    yield* polling.release("key", "holder", 1)
    yield* until(Effect.sync(() => heard.length > 0))
    expect(place).toMatchObject({ _tag: "Waiting", fencingToken: heard[0] })
  }))

it.live("limits may be as large as JavaScript's integers, and all in line together want more than those", () =>
  Effect.gen(function*() {
    const backing = Context.get(
      yield* Layer.build(SqliteBacking.layer({ filename: yield* filename })),
      DistributedSemaphoreBacking
    )
    const [ttl, limit] = [Duration.minutes(1), Number.MAX_SAFE_INTEGER]
    for (const id of ["a", "b", "c"]) yield* backing.tryAcquire("key", id, ttl, limit, limit, { queue: true })
    expect(yield* backing.tryAcquire("key", "a", ttl, limit, 1)).toBe(false)
  }))

describe("the clock", () => {
  const ttl = 30 * second
  const ask = (layer: Layer.Layer<DistributedSemaphoreBacking, unknown>, id: string) =>
    Effect.scoped(Effect.flatMap(Layer.build(layer), (context) =>
      Effect.provideContext(
        Effect.flatMap(DistributedSemaphoreBacking, (backing) =>
          backing.tryAcquire("key", id, Duration.micros(BigInt(ttl)), 1, 1)),
        context
      )))
  const token = (answer: unknown) => (answer as { readonly fencingToken: bigint }).fencingToken

  it.live("is not the wall clock: a lease survives its jumps", () =>
    Effect.gen(function*() {
      const file = yield* filename
      let jump = 0
      const layer = on({ wall: () => Date.now() * 1000 + jump }, file)
      expect(yield* ask(layer, "a")).toMatchObject({ _tag: "Acquired" })
      for (const hour of [60 * minute, -60 * minute]) {
        jump = hour
        expect(yield* ask(layer, "b")).toBe(false)
      }
    }))

  it.live.each(["boot", ""])(
    "goes on from the wall clock after a reboot, and tokens rise (boot: %j)",
    (boot) =>
      Effect.gen(function*() {
        const file = yield* filename
        const [wall, uptime] = [1_800_000_000 * second, 1000 * second]
        const machine = (boot: string, wall: number, uptime: number) =>
          on({ boot, wall: () => wall, monotonic: () => uptime }, file)
        const first = yield* ask(machine(boot, wall, uptime), "a")
        // Ten seconds later, the lease goes on.
        const rebooted = boot && `${boot} again`
        expect(yield* ask(machine(rebooted, wall + 10 * second, 5 * second), "b")).toBe(false)
        const later = yield* ask(machine(rebooted, wall + 10 * second, 26 * second), "b")
        expect(token(later)).toBeGreaterThan(token(first))
        // A machine without a hardware clock: its wall clock begins in 1970.
        const third = yield* ask(machine(boot && `${boot} once more`, 0, 1 * second), "b")
        expect(third).toEqual(later)
        const fourth = yield* ask(machine(boot && `${boot} once more`, 0, 32 * second), "c")
        expect(token(fourth)).toBeGreaterThan(token(later))
      })
  )

  it.live("of another machine in the file makes the process that notices it refuse the file for good", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const backing = Context.get(yield* Layer.build(on({ boot: "one" }, file)), DistributedSemaphoreBacking)
      const asks = Effect.exit(backing.tryAcquire("key", "a", Duration.minutes(1), 1, 1))
      expect(Exit.isSuccess(yield* asks)).toBe(true)
      yield* ask(on({ boot: "two" }, file), "b")
      for (const _ of [1, 2]) expect(String(yield* asks)).toContain("Another machine")
    }))

  it.live("makes tokens rise although all rows are lost", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const layer = SqliteBacking.layer({ filename: file })
      const before = yield* ask(layer, "a")
      const database = new DatabaseSync(file)
      database.exec("delete from clock; delete from semaphores; delete from contenders")
      database.close()
      expect(token(yield* ask(layer, "a"))).toBeGreaterThan(token(before))
    }))
})
