/** A command that runs under a lease, in a process group of its own. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { fork } from "node:child_process"
import { constants } from "node:os"
import { fileURLToPath } from "node:url"
import { LockLostError } from "../core/Errors.ts"
import type { Lease } from "../core/Lease.ts"
import { afterSignal, codes, Exit } from "./exits.ts"
import { passTo } from "./signals.ts"
import type { Order, Report } from "./supervisor.ts"

export interface Options {
  readonly command: ReadonlyArray<string>
  readonly environment: Record<string, string>
  /** How long the command may take to stop, before it is killed. */
  readonly grace: Duration.Duration
}

const supervisor = fileURLToPath(import.meta.url).replace(/command(?=\.[jt]s$)/, "supervisor")

const exitOf = (report: Report | undefined, lease: Lease["Service"], [file]: Options["command"]) => {
  switch (report?.report) {
    case "ended":
      return Effect.succeed(report.code ?? afterSignal(constants.signals[report.signal!]))
    case "overdue":
      return Effect.fail(new LockLostError({ key: lease.key, identifier: lease.identifier, reason: "unreachable" }))
    case "failed":
      return Effect.fail(
        report.code === "ENOENT"
          ? new Exit({ code: codes.notFound, message: `There is no command ${file}` })
          : new Exit({ code: codes.notExecutable, message: `The command ${file} can't be executed: ${report.code}` })
      )
    default:
      return Effect.fail(
        new Exit({ code: afterSignal(9), message: "The supervisor of the command was killed, and so is the command" })
      )
  }
}

/**
 * Runs the command and returns its exit code. Interruption stops it. Either way, no process of its group is left in the end.
 */
export const run = (
  lease: Lease["Service"],
  { command, environment, grace }: Options
): Effect.Effect<number, Exit | LockLostError> =>
  Effect.callback<number, Exit | LockLostError>((resume) => {
    const child = fork(supervisor, [], {
      detached: true,
      env: { ...process.env, ...environment },
      stdio: ["inherit", "inherit", "inherit", "ipc"]
    })
    const order = (order: Order) => {
      if (child.connected) child.send(order, () => {})
    }
    let group: number | undefined
    let last: Report | undefined
    child.on("message", (report: Report) => {
      if (report.report === "started") group = report.group
      else last ??= report
    })
    const gone = new Promise<void>((resolve) => {
      let awaited = 2
      const arrived = () => --awaited === 0 && resolve()
      child.once("exit", arrived)
      // Its last report may still be on the way when it exits.
      child.once("disconnect", arrived)
      child.once("error", ({ message }) => {
        last = { report: "failed", code: message }
        resolve()
      })
    })
    order({ order: "start", command, grace: Duration.toMillis(grace) })
    const endPassing = passTo((signal) => order({ order: "signal", signal }))

    const beat = Effect.runFork(Effect.flatMap(lease.remaining, (whole) =>
      lease.remaining.pipe(
        Effect.tap((left) => Effect.sync(() => order({ order: "lease", left: Duration.toMillis(left) }))),
        // The lease is refreshed each third of its time: twice as many reports pass each refresh on in time.
        Effect.repeat(Schedule.spaced(Duration.divideUnsafe(whole, 6)))
      )))
    const ended = gone.then(() => {
      endPassing()
      beat.interruptUnsafe()
      if (last === undefined && group !== undefined) killGroup(group)
    })
    ended.then(() => resume(exitOf(last, lease, command)))
    return Effect.promise(() => {
      if (child.connected) child.disconnect()
      return ended
    })
  })

const killGroup = (group: number): void => {
  try {
    process.kill(-group, "SIGKILL")
  } catch {
    // No process of the group is left.
  }
}
