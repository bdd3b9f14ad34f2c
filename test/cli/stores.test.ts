/** The command line on each store, and what it says when it can't reach one. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { inject } from "vitest"
import * as Sqlite from "../utils/sqlite.ts"
import * as Program from "./program.ts"

const etcdUrl = () => inject("etcdUrl").replace(/^http:/, "etcd:")

/** The options keep the store apart from that of other tests. */
const servers: Record<string, () => { readonly store: string; readonly args: ReadonlyArray<string> }> = {
  redis: () => ({ store: inject("redisUrl"), args: ["--key-prefix", `cli-${randomUUID()}:`] }),
  postgres: () => ({ store: inject("postgresUrl"), args: ["--schema", "cli_test"] }),
  etcd: () => ({ store: etcdUrl(), args: ["--key-prefix", `cli-${randomUUID()}/`] })
}

describe("on each store", { timeout: Program.patience }, () => {
  for (const [name, find] of Object.entries(servers)) {
    it.live(
      `${name}: a command runs, is listed, and is stopped when its hold is revoked`,
      () =>
        Effect.gen(function*() {
          const { args, store } = find()
          const key = randomUUID()
          const command = ["--key", key, "--ttl", "3s", "--", "sh", "-c", "echo holds; exec sleep 600"]
          const running = yield* Program.start(["run", ...args, ...command], { store })
          yield* running.says("holds")
          const { stdout } = yield* Program.run(["look", key, "--json", ...args], { store })
          const { holders: [{ identifier, owner }], line } = JSON.parse(stdout)
          expect([owner, line]).toEqual([`${hostname()}:${running.child.pid}`, []])
          const listed = yield* Program.run(["ls", ...args], { store })
          expect(listed.stdout.split("\n")).toContain(key)
          const revoked = yield* Program.run(["revoke", key, identifier, ...args], { store })
          expect([revoked.code, revoked.stderr]).toEqual([0, ""])
          expect(revoked.stdout).toMatch(
            new RegExp(`^Revoked 1 permit of the holder "${identifier}" of "${key}" \\(token \\d+`)
          )
          expect(yield* running.ended).toBe(195)
          const again = yield* Program.run(["revoke", key, identifier, ...args], { store })
          expect(again.code).toBe(1)
        })
    )
  }
})

const password = "hunt/er2"

/** Nothing listens at port 1. */
const unreachable = ["redis", "rediss", "postgres", "etcd", "etcds"].map((scheme) =>
  `${scheme}://user:${encodeURIComponent(password)}@127.0.0.1:1`
)

const withoutSecrets = ({ stderr, stdout }: { readonly stderr: string; readonly stdout: string }) => {
  expect(stdout).toBe("")
  expect(stderr).not.toContain("hunt")
  return stderr
}

describe("a store that can't be used", { timeout: Program.patience }, () => {
  it.live("makes `run` fail at once, with a code of its own, if it can't be reached", () =>
    Effect.gen(function*() {
      const args = ["run", "--key", "key", "--", "echo", "ran"]
      const [first, ...others] = unreachable
      const outcomes = [
        yield* Program.run(args, { store: first! }),
        ...yield* Program.runEach(others.map((store) => ["--store", store, ...args]))
      ]
      expect(outcomes.map(({ code }) => code)).toEqual(unreachable.map(() => 196))
      for (const outcome of outcomes) expect(withoutSecrets(outcome)).toMatch(/ECONNREFUSED|UNAVAILABLE/)
    }))

  it.live("is refused if none is named, or if its URL or its options are wrong", () =>
    Effect.gen(function*() {
      const filename = yield* Sqlite.filename
      const refused: ReadonlyArray<readonly [url: string, says: string, ...args: ReadonlyArray<string>]> = [
        ["", "No store is named"],
        [`mysql://user:${password}@host`, "is not understood"],
        [password, "is not understood"],
        [`redis://user:${password}@host`, "is broken"],
        [`etcd://user:${password}@host:port/`, "is broken"],
        ["sqlite:", "names no file"],
        [`sqlite:${filename}`, "have no option --schema", "--schema", "other"],
        ["rediss://host", "can't be read", "--tls-ca", `${filename}.pem`]
      ]
      const outcomes = yield* Program.runEach(
        refused.map(([store, , ...args]) => ["run", "--store", store, "--key", "key", ...args, "--", "true"])
      )
      expect(outcomes.map(({ code }) => code)).toEqual(refused.map(() => 197))
      for (const [index, [, says]] of refused.entries()) expect(withoutSecrets(outcomes[index]!)).toContain(says)
    }))

  it.live("is not created by `look`", () =>
    Effect.gen(function*() {
      const filename = yield* Sqlite.filename
      const missing = yield* Program.run(["look", "key"], { store: `sqlite:${filename}` })
      expect([missing.code, missing.stderr]).toEqual([196, `effect-distributed-lock: There is no file ${filename}\n`])
      const schema = yield* Program.run(["look", "key", "--schema", "never_created"], { store: inject("postgresUrl") })
      expect([schema.code, schema.stderr]).toEqual([196, expect.stringContaining("there is no schema never_created")])
    }))
})

it.live("passwords appear in no process title and in no message", () =>
  Effect.gen(function*() {
    const filename = yield* Sqlite.filename
    const secret = "hunter2"
    const store = `${inject("redisUrl").replace("//", `//default:${secret}@`)}?password=${secret}`
    const program = yield* Program.start(["run", "--store", store, "--key", "key", "--", "true"])
    // The server knows no such password, so it refuses the client.
    const titles = yield* Effect.repeat(
      Effect.sync(() => Program.family(program.child.pid!).map(({ args }) => args).join("\n")),
      { until: (titles) => titles.startsWith("effect-distributed-lock") || titles === "" }
    )
    expect(titles).not.toContain(secret)
    yield* program.ended
    expect(program.output.stderr + program.output.stdout).not.toContain(secret)
    const wrong = yield* Program.run(["look", "key", store, "--store", `sqlite:${filename}`])
    expect(wrong.code).toBe(197)
    expect(withoutSecrets(wrong)).toContain("redis://***@")
  }))
