/** `run`: a command runs while permits are held. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import * as Sqlite from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"
import * as Program from "./program.ts"

/** Makes a store, and returns its URL and the semaphore "key" in it. */
const make = (limit = 1) =>
  Effect.gen(function*() {
    const filename = yield* Sqlite.filename
    const context = yield* Layer.build(SqliteBacking.layer({ filename }))
    const semaphore = yield* Effect.provideContext(
      DistributedSemaphore.make("key", { limit, ttl: "20 seconds" }),
      context
    )
    return { store: `sqlite:${filename}`, semaphore }
  })

const sh = (script: string) => ["--", "sh", "-c", script]

describe("run", { timeout: Program.patience }, () => {
  it.live("gives the command the token, the key and the identifier, and exits with its code", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* make()
      const running = yield* Program.start(
        ["run", "--key", "key", ...sh("echo it: $FENCING_TOKEN $LOCK_KEY $LOCK_IDENTIFIER; read line; exit 7")],
        { store }
      )
      const [token, key, identifier] = (yield* running.says("it:")).split(" ")
      const { holders: [holder] } = yield* semaphore.inspect
      expect([token, key, identifier]).toEqual([String(holder!.fencingToken), "key", holder!.identifier])
      running.child.stdin!.end("\n")
      expect(yield* running.ended).toBe(7)
      expect((yield* semaphore.inspect).holderCount).toBe(0)
      expect(running.output.stderr).toBe("")
    }))

  it.live("leaves standard input and output to the command, as they are", () =>
    Effect.gen(function*() {
      const { store } = yield* make()
      const script = "cat; for fd in 0 1 2; do grep flags /proc/self/fdinfo/$fd; done; echo trouble >&2"
      const { code, stderr, stdout } = yield* Program.run(["run", "-k", "key", ...sh(script)], {
        store,
        input: "hello\n"
      })
      const [hello, ...flags] = stdout.trim().split("\n")
      expect([code, hello, stderr]).toEqual([0, "hello", "trouble\n"])
      // The flags are octal. With O_NONBLOCK, a program that reads such a pipe would fail.
      expect(flags.map((line) => Number.parseInt(line.split(/\s+/)[1]!, 8) & 0o4000)).toEqual(flags.map(() => 0))
    }))

  it.live("exits with a shell's codes if the command can't be run, or is killed", () =>
    Effect.gen(function*() {
      const { store } = yield* make(3)
      const outcomes = yield* Effect.forEach(
        [["--", "no-such-command"], ["--", "/etc/passwd"], sh("kill -9 $$")],
        (command) => Program.run(["run", "--key", "key", "--limit", "3", ...command], { store }),
        { concurrency: "unbounded" }
      )
      expect(outcomes.map(({ code }) => code)).toEqual([127, 126, 137])
      expect(outcomes[0]!.stderr).toBe("effect-distributed-lock: There is no command no-such-command\n")
    }))

  it.live("does not run the command if permits are not free, at once or in time", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* make(2)
      yield* semaphore.take(1)
      const args = ["run", "--key", "key", "--limit", "2", "--permits", "2"]
      const [busy, late] = yield* Effect.all([
        Program.run([...args, "--no-wait", "--", "echo", "ran"], { store }),
        Program.run([...args, "--timeout", "200ms", "--", "echo", "ran"], { store })
      ], { concurrency: "unbounded" })
      expect(busy).toEqual({
        code: 193,
        stdout: "",
        stderr: "effect-distributed-lock: The permits of \"key\" are not free\n"
      })
      expect(late).toEqual({
        code: 194,
        stdout: "",
        stderr: "effect-distributed-lock: The permits of \"key\" were not free in time\n"
      })
      expect((yield* semaphore.inspect).waiterCount).toBe(0)
    }))

  it.live("waits for its turn if that comes within --timeout, which does not limit the command", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* make()
      const scope = yield* Scope.make()
      yield* Scope.provide(semaphore.take(1), scope)
      const running = yield* Program.start(["run", "--key", "key", "--timeout", "8s", ...sh("echo runs; sleep 9")], {
        store
      })
      yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 1), Program.patience)
      expect(running.output.stdout).toBe("")
      yield* Scope.close(scope, Exit.void)
      expect(yield* running.ended).toBe(0)
      expect(running.output.stdout).toBe("runs\n")
    }))

  it.live("passes signals on to the whole process group, and runs as long as the command does", () =>
    Effect.gen(function*() {
      const { store } = yield* make()
      const script = `trap 'echo usr1' USR1; trap 'echo int' INT; trap 'echo term; exit 9' TERM
        sh -c 'trap "" USR1 INT; sleep 600 & trap "echo child" USR1; echo ready; while :; do wait; done' &
        while :; do wait; done`
      const running = yield* Program.start(["run", "--key", "key", ...sh(script)], { store })
      yield* running.says("ready")
      running.child.kill("SIGUSR1")
      yield* running.says("usr1")
      yield* running.says("child")
      running.child.kill("SIGINT")
      yield* running.says("int")
      running.child.kill("SIGTSTP")
      running.child.kill("SIGTERM")
      yield* running.says("term")
      expect(yield* running.ended).toBe(9)
    }))

  it.live("gives up its place when a signal comes while it waits", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* make()
      yield* semaphore.take(1)
      const running = yield* Program.start(["run", "--key", "key", "--", "echo", "ran"], { store })
      yield* until(Effect.map(semaphore.inspect, ({ waiterCount }) => waiterCount === 1), Program.patience)
      running.child.kill("SIGINT")
      expect(yield* running.ended).toBe(130)
      expect((yield* semaphore.inspect).waiterCount).toBe(0)
      expect(running.output).toEqual({ stdout: "", stderr: "" })
    }))

  it.live("stops the processes that the command leaves behind before it releases the permits", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* make()
      const script = "echo group: $$; (trap '' TERM; sleep 60) & exit 3"
      const running = yield* Program.start(["run", "--key", "key", "--grace", "1s", ...sh(script)], { store })
      const group = Number(yield* running.says("group:"))
      yield* semaphore.take(1)
      expect(Program.members(group)).toEqual([])
      expect(yield* running.ended).toBe(3)
    }))

  it.live("refuses wrong arguments, names them, and does not ask the store", () =>
    Effect.gen(function*() {
      const store = "sqlite:/nonexistent/file"
      const outcomes = yield* Program.runEach(
        [
          ["--key", "key"],
          ["--", "true"],
          ["--key", "", "--", "true"],
          ["--key", "key", "--ttl", "soon", "--", "true"],
          ["--key", "key", "--no-wait", "--timeout", "1s", "--", "true"],
          ["--key", "key", "--no-such-flag", "--", "true"]
        ].map((args) => ["run", "--store", store, ...args])
      )
      expect(outcomes.map(({ code }) => code)).toEqual(Array.from({ length: 6 }, () => 197))
      expect(outcomes.map(({ stderr }) => stderr.split("\n")[0])).toEqual([
        expect.stringContaining("command"),
        expect.stringContaining("--key"),
        expect.stringContaining("a key that is not empty"),
        expect.stringContaining("a time, such as 500ms, 30s, 5m or 2h"),
        expect.stringContaining("--timeout or --no-wait"),
        expect.stringContaining("--no-such-flag")
      ])
      expect(outcomes.every(({ stdout }) => stdout === "")).toBe(true)
    }))

  it.live("refuses more permits than the limit", () =>
    Effect.gen(function*() {
      const { store } = yield* make()
      const { code, stderr } = yield* Program.run(["run", "--key", "key", "--permits", "2", "--", "true"], { store })
      expect([code, stderr]).toEqual([
        197,
        "effect-distributed-lock: permits is 2, but must be at most the limit of 1\n"
      ])
    }))
})
