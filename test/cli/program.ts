/** Runs the command line as a process, and looks at processes. */
import { Effect, Schedule } from "effect"
import type { ChildProcess } from "node:child_process"
import { execFileSync, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { until } from "../utils/until.ts"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))
const several = fileURLToPath(new URL("several.ts", import.meta.url))

/** In milliseconds. Tests start many processes, perhaps on a busy machine. */
export const patience = 180_000

export interface Program {
  readonly child: ChildProcess
  readonly output: { stdout: string; stderr: string }
  /** Waits for its end, and returns its exit code, or the signal that ended it. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
  /** Waits until its standard output has a line that begins so, and returns the rest of the line. */
  readonly says: (beginning: string) => Effect.Effect<string>
}

export interface Options {
  readonly store?: string
  readonly environment?: Record<string, string>
}

/** Starts `effect-distributed-lock` with these arguments. It is killed when the scope closes. */
export const start = (args: ReadonlyArray<string>, options?: Options) =>
  spawned(process.execPath, [main, ...args], options)

/** Starts `effect-distributed-lock` in a terminal of its own. */
export const startInTerminal = (args: ReadonlyArray<string>, options?: Options, rows = 24) =>
  spawned(
    "script",
    ["-qec", `stty rows ${rows} cols 100; ${[process.execPath, main, ...args].join(" ")}`, "/dev/null"],
    options
  )

const spawned = (file: string, args: ReadonlyArray<string>, { environment, store }: Options = {}) =>
  Effect.acquireRelease(
    Effect.sync((): Program => {
      const child = spawn(file, args, {
        env: { ...process.env, ...environment, ...store && { LOCK_STORE: store } }
      })
      const output = { stdout: "", stderr: "" }
      for (const stream of ["stdout", "stderr"] as const) {
        child[stream].setEncoding("utf8").on("data", (text: string) => output[stream] += text)
      }
      const ended = new Promise<number | NodeJS.Signals>((resolve) =>
        child.once("close", (code, signal) => resolve(code ?? signal!))
      )
      const lineOf = (beginning: string) => output.stdout.split("\n").find((line) => line.startsWith(beginning))
      return {
        child,
        output,
        ended: Effect.promise(() => ended),
        says: (beginning) =>
          Effect.map(
            until(Effect.sync(() => lineOf(beginning) !== undefined), patience),
            () => lineOf(beginning)!.slice(beginning.length).trim()
          )
      }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** Runs `effect-distributed-lock` to its end. */
export const run = (args: ReadonlyArray<string>, options?: Options & { readonly input?: string }) =>
  Effect.scoped(Effect.flatMap(start(args, options), ({ child, ended, output }) => {
    child.stdin!.end(options?.input ?? "")
    return Effect.map(ended, (code) => ({ code, ...output }))
  }))

/** Runs `effect-distributed-lock` to its end with each of these arguments, one after the other in one process. */
export const runEach = (runs: ReadonlyArray<ReadonlyArray<string>>) =>
  Effect.scoped(
    Effect.flatMap(
      spawned(process.execPath, [several, JSON.stringify(runs)]),
      ({ ended, output }) =>
        Effect.map(ended, () => {
          const errors = output.stderr.split("\0")
          return output.stdout.split("\0").slice(0, -1).map((text, index) => {
            const end = text.lastIndexOf("\n")
            return { code: Number(text.slice(end)), stdout: text.slice(0, end), stderr: errors[index]! }
          })
        })
    )
  )

/** Lists all processes, with their parents, groups, states and arguments. */
export const all = () =>
  execFileSync("ps", ["-A", "-o", "pid=,ppid=,pgid=,stat=,args="], { encoding: "utf8" }).trim().split("\n").map(
    (line) => {
      const [pid, parent, group, state, ...args] = line.trim().split(/\s+/)
      return { pid: Number(pid), parent: Number(parent), group: Number(group), state: state!, args: args.join(" ") }
    }
  )

/** Lists the processes of a group that have not ended. */
export const members = (group: number) =>
  all().filter((process) => process.group === group && !process.state.startsWith("Z"))

/** Lists a process and its descendants. */
export const family = (root: number) => {
  const processes = all()
  const found = processes.filter(({ pid }) => pid === root)
  // The array grows while it is walked.
  for (const { pid } of found) found.push(...processes.filter(({ parent }) => parent === pid))
  return found
}

/** Waits until no process of a group runs any more. */
export const untilGone = (group: number) =>
  Effect.timeout(
    Effect.repeat(Effect.sync(() => members(group).length), {
      schedule: Schedule.spaced("100 millis"),
      until: (count) => count === 0
    }),
    patience
  )
