/** What happens to a command when its permits are lost, or the command line dies. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { spawnSync } from "node:child_process"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import * as Find from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import * as Sqlite from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"
import * as Program from "./program.ts"

const sqlite = Effect.gen(function*() {
  const filename = yield* Sqlite.filename
  const context = yield* Layer.build(SqliteBacking.layer({ filename }))
  const semaphore = yield* Effect.provideContext(DistributedSemaphore.make("key"), context)
  return { store: `sqlite:${filename}`, semaphore }
})

/** Returns a command of two processes: one runs `onTerm` on SIGTERM, the other ignores the signal. */
const command = (onTerm: string) => [
  "--",
  "sh",
  "-c",
  `trap '${onTerm}' TERM; (trap '' TERM; exec sleep 600) & echo group: $$; while :; do wait; done`
]

const start = (store: string, onTerm: string, ...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const program = yield* Program.start(["run", "--key", "key", ...args, ...command(onTerm)], { store })
    const group = Number(yield* program.says("group:"))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => Program.members(group).forEach(({ pid }) => process.kill(pid, "SIGKILL")))
    )
    return { program, group }
  })

/** Returns the id of the process that watches the command. */
const supervisorOf = ({ child }: Program.Program) =>
  Program.family(child.pid!).find(({ args }) => args.startsWith("effect-distributed-lock: supervisor"))!.pid

describe("run", { timeout: Program.patience }, () => {
  it.live("stops the process group with SIGTERM, then SIGKILL, when the hold is revoked", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* sqlite
      const { group, program } = yield* start(store, "echo term", "--ttl", "3s", "--grace", "1s")
      const { holders: [holder] } = yield* semaphore.inspect
      yield* semaphore.revoke(holder!.identifier)
      yield* program.says("term")
      expect(yield* program.ended).toBe(195)
      expect(Program.members(group)).toEqual([])
      expect(program.output.stderr).toContain("The command was stopped, because it lost its permits of \"key\"")
    }))

  it.live("stops the command when the store is gone, by the end of the lease", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.promise(() => Find.startOwn(stores.redis)),
        (server) => Effect.promise(() => server.stop())
      )
      const { group, program } = yield* start(server.url, "exit 4", "--ttl", "2s", "--grace", "100ms")
      yield* Effect.promise(() => server.kill())
      const killed = performance.now()
      expect(yield* program.ended).toBe(195)
      expect(performance.now() - killed).toBeLessThan(10_000)
      expect(Program.members(group)).toEqual([])
    }))

  it.live("leaves no process, and no hold, behind when it is killed", () =>
    Effect.gen(function*() {
      const { semaphore, store } = yield* sqlite
      const { group, program } = yield* start(store, "exit 4", "--ttl", "2s", "--grace", "300ms")
      const supervisor = supervisorOf(program)
      program.child.kill("SIGKILL")
      expect(yield* program.ended).toBe("SIGKILL")
      yield* Program.untilGone(group)
      yield* Program.untilGone(supervisor)
      yield* until(Effect.map(semaphore.inspect, ({ holderCount }) => holderCount === 0))
    }))

  it.live("leaves no process behind when it is killed before the command runs", () =>
    Effect.gen(function*() {
      const { store } = yield* sqlite
      const program = yield* Program.start(["run", "--key", "key", "--", "sleep", "61.7"], { store })
      const started = () => Program.family(program.child.pid!).find(({ args }) => args.includes("supervisor"))
      yield* until(Effect.sync(() => started() !== undefined), Program.patience)
      const supervisor = started()!.pid
      program.child.kill("SIGKILL")
      yield* Program.untilGone(supervisor)
      expect(Program.all().filter(({ args }) => args === "sleep 61.7")).toEqual([])
    }))

  it.live("stops the command at the end of the lease although it is frozen itself", () =>
    Effect.gen(function*() {
      const { store } = yield* sqlite
      const { group, program } = yield* start(store, "exit 4", "--ttl", "2s", "--grace", "100ms")
      program.child.kill("SIGSTOP")
      yield* Program.untilGone(group)
      program.child.kill("SIGCONT")
      expect(yield* program.ended).toBe(195)
    }))

  it.live("kills the command when the supervisor is killed", () =>
    Effect.gen(function*() {
      const { store } = yield* sqlite
      const { group, program } = yield* start(store, "exit 4")
      process.kill(supervisorOf(program), "SIGKILL")
      expect(yield* program.ended).toBe(137)
      yield* Program.untilGone(group)
    }))

  it.live("exits with the code of the command when all its processes get a signal, as a service manager sends it", () =>
    Effect.gen(function*() {
      const { store } = yield* sqlite
      const { group, program } = yield* start(store, "exit 4", "--grace", "300ms")
      // By one call of kill: when the first process has its signal, others may end.
      const pids = Program.family(program.child.pid!).map(({ pid }) => String(pid))
      spawnSync("kill", ["-s", "TERM", ...pids])
      expect(yield* program.ended).toBe(4)
      expect(Program.members(group)).toEqual([])
    }))
})
