/** The commands of an operator: `look`, `revoke`, `watch` and `ls`. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import * as Sqlite from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"
import * as Program from "./program.ts"

/** Makes two holders, with all three permits, and a waiter. */
const crowd = (key: string) =>
  Effect.gen(function*() {
    const filename = yield* Sqlite.filename
    const context = yield* Layer.build(SqliteBacking.layer({ filename }))
    const semaphore = yield* Effect.provideContext(DistributedSemaphore.make(key, { limit: 3 }), context)
    const first = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(first, Exit.void))
    yield* Scope.provide(semaphore.take(2, { identifier: "first" }), first)
    yield* semaphore.take(1, { identifier: "second" })
    yield* Effect.forkScoped(semaphore.take(2, { identifier: "third" }))
    yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 1))
    return { store: `sqlite:${filename}`, semaphore, leave: Scope.close(first, Exit.void) }
  })

const tokens = ({ inspect }: DistributedSemaphore.DistributedSemaphore) =>
  Effect.map(inspect, ({ holders, line }) => [...holders, ...line].map(({ fencingToken }) => String(fencingToken)))

describe("look", { timeout: Program.patience }, () => {
  it.live("lists holders and waiters, as a table and as JSON", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* crowd("key")
      const [one, two, three] = yield* tokens(semaphore)
      const table = yield* Program.run(["look", "key"], { store })
      expect([table.code, table.stderr]).toEqual([0, ""])
      const [summary, header, ...rows] = table.stdout.trimEnd().split("\n")
      expect(summary).toBe("key: 2 holders, with 3 permits; 1 waiting")
      expect(header!.trim().split(/\s+/)).toEqual(["IDENTIFIER", "PERMITS", "TOKEN", "LEFT", "OWNER", "SINCE"])
      expect(rows.map((row) => row.split(/\s+/).slice(0, 4))).toEqual([
        ["holds", "first", "2", one],
        ["holds", "second", "1", two],
        ["waits", "third", "2", three]
      ])

      const json = JSON.parse((yield* Program.run(["look", "key", "--json"], { store })).stdout)
      expect(json).toMatchObject({
        key: "key",
        holderCount: 2,
        waiterCount: 1,
        holders: [{ identifier: "first", permits: 2, fencingToken: one }, { identifier: "second", fencingToken: two }],
        line: [{ identifier: "third", permits: 2, fencingToken: three }]
      })
      expect(json.holders[0].remainingMillis).toBeGreaterThan(0)
    }))

  it.live("escapes the control characters of a key", () =>
    Effect.gen(function*() {
      const { store } = yield* crowd("red\x1b[31m\n")
      const { stdout } = yield* Program.run(["look", "red\x1b[31m\n"], { store })
      expect(stdout).toContain("red\\u{1b}[31m\\u{a}: 2 holders")
      expect(stdout).not.toContain("\x1b")
    }))

  it.live("says so if nobody holds or waits", () =>
    Effect.gen(function*() {
      const { store } = yield* crowd("key")
      expect(yield* Program.run(["look", "other"], { store })).toEqual({
        code: 0,
        stdout: "other: 0 holders; 0 waiting\n",
        stderr: ""
      })
    }))
})

describe("revoke", { timeout: Program.patience }, () => {
  it.live("takes a place in line away, and fails if nobody has the identifier", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* crowd("key")
      const before = yield* tokens(semaphore)
      const { code, stdout } = yield* Program.run(["revoke", "key", "third"], { store })
      expect([code, stdout]).toEqual([0, expect.stringContaining("Revoked the place in line of \"third\" of \"key\"")])
      // It joins the end of the line again.
      yield* until(
        Effect.map(tokens(semaphore), (after) => after.length === 3 && after[2] !== before[2]),
        Program.patience
      )
      const nobody = yield* Program.run(["revoke", "key", "fourth"], { store })
      expect([nobody.code, nobody.stderr]).toEqual([
        1,
        "effect-distributed-lock: There is no holder and no waiter \"fourth\" of \"key\"\n"
      ])
    }))
})

describe("watch", { timeout: Program.patience }, () => {
  it.live("writes each change to a pipe", () =>
    Effect.gen(function*() {
      const { leave, store } = yield* crowd("key")
      const watching = yield* Program.start(["watch", "key"], { store })
      const sees = (text: string) => until(Effect.sync(() => watching.output.stdout.includes(text)), Program.patience)
      yield* sees("2 holders, with 3 permits; 1 waiting")
      yield* leave
      yield* sees("2 holders, with 3 permits; 0 waiting")
      watching.child.kill("SIGTERM")
      expect(yield* watching.ended).toBe(143)
    }))

  it.live("draws on a terminal until q is pressed, and then restores it", () =>
    Effect.gen(function*() {
      const { leave, store } = yield* crowd("key")
      const watching = yield* Program.startInTerminal(["watch", "key"], { store })
      const sees = (text: string) => until(Effect.sync(() => watching.output.stdout.includes(text)), Program.patience)
      yield* sees("waits  third")
      yield* leave
      yield* sees("first holds no more")
      yield* sees("third holds, token")
      watching.child.stdin!.write("q")
      expect(yield* watching.ended).toBe(0)
      const { stdout } = watching.output
      expect([stdout.indexOf("\x1b[?1049h"), stdout.indexOf("\x1b[?1049l")]).toEqual([0, expect.any(Number)])
      expect(stdout.trimEnd().endsWith("\x1b[?1049l")).toBe(true)
    }))
})

/** Holds a permit of each key. */
const holdEach = (keys: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const filename = yield* Sqlite.filename
    const context = yield* Layer.build(SqliteBacking.layer({ filename }))
    for (const key of keys) {
      const semaphore = yield* Effect.provideContext(DistributedSemaphore.make(key), context)
      yield* semaphore.take(1)
    }
    return `sqlite:${filename}`
  })

describe("ls", { timeout: Program.patience }, () => {
  it.live("lists keys, one per line, whatever their characters", () =>
    Effect.gen(function*() {
      const store = yield* holdEach(["one", "two\nlines"])
      const lines = ({ stdout }: { readonly stdout: string }) => stdout.trimEnd().split("\n").toSorted()
      expect(lines(yield* Program.run(["ls"], { store }))).toEqual(["one", "two\\u{a}lines"])
      expect(lines(yield* Program.run(["ls", "--json"], { store }))).toEqual(["\"one\"", "\"two\\nlines\""])
    }))

  it.live("waits for a keystroke after each screenful of a terminal", () =>
    Effect.gen(function*() {
      const store = yield* holdEach(["1a", "1b", "1c", "1d", "1e", "1f"])
      const { child, ended, output } = yield* Program.startInTerminal(["ls"], { store }, 3)
      const pages = (count: number) =>
        until(Effect.sync(() => output.stdout.split("q: quit").length === count + 1), Program.patience)
      yield* pages(1)
      child.stdin!.write(" ")
      yield* pages(2)
      child.stdin!.write("q")
      expect(yield* ended).toBe(0)
      expect(output.stdout.match(/1[a-f]/g)).toHaveLength(4)
    }))
})

it.live("the help names every command, and the completions name the flags", () =>
  Effect.gen(function*() {
    const help = yield* Program.run(["--help"])
    expect(help.code).toBe(0)
    for (const command of ["run", "look", "watch", "revoke", "ls"]) expect(help.stdout).toContain(command)
    const { stdout } = yield* Program.run(["--completions", "bash"])
    for (const flag of ["--no-wait", "--timeout", "--store", "--json"]) expect(stdout).toContain(flag)
  }))
