/**
 * Runs a command in a process group of its own, and stops the group when the command line has ended, even by SIGKILL. It is a process
 * that `command.ts` starts. They talk over the channel of `fork`, which closes when either of them ends.
 *
 * It has a session of its own, so that a signal to the terminal or to the group of the command line does not reach it.
 */
import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

/** What the command line sends. */
export type Order =
  | { readonly order: "start"; readonly command: ReadonlyArray<string>; readonly grace: number }
  /** The lease ends in `left` milliseconds. */
  | { readonly order: "lease"; readonly left: number }
  | { readonly order: "signal"; readonly signal: NodeJS.Signals }

/** What the supervisor answers. */
export type Report =
  | { readonly report: "started"; readonly group: number }
  | { readonly report: "failed"; readonly code: string }
  | { readonly report: "ended"; readonly code: number | null; readonly signal: NodeJS.Signals | null }
  /** The lease ended, and the command line did nothing: it is frozen, or has too little time. */
  | { readonly report: "overdue" }

const report = (report: Report): void => {
  if (process.connected) process.send!(report, undefined, undefined, () => {})
}

/** Sends a signal to the group. Returns whether it has any process. */
const signalGroup = (group: number, signal: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(-group, signal)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"
  }
}

/**
 * Returns whether any process of the group still runs. One that has ended stays in the group until its parent has noticed, which the
 * first process of a container may never do.
 */
const isAlive = (group: number): boolean => {
  if (!signalGroup(group, 0)) return false
  try {
    return readdirSync("/proc").some((pid) => {
      const [state, , itsGroup] = statOf(pid)
      return itsGroup === String(group) && state !== "Z" && state !== "X"
    })
  } catch {
    // Only Linux has this folder.
    return true
  }
}

/** Returns the state, the parent and the group of a process of Linux. */
const statOf = (pid: string): ReadonlyArray<string> => {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "").split(" ")
  } catch {
    return []
  }
}

/** How many milliseconds to wait for processes that were killed. Nothing more can be done about them. */
const patience = 1000

let child: ChildProcess | undefined
let grace = 0
let stopping = false
let deadline = Infinity

/** Ends all processes that are left of the group, and then this process. */
const stop = (): void => {
  if (stopping) return
  stopping = true
  const group = child?.pid
  if (group === undefined) return end()
  signalGroup(group, "SIGTERM")
  // A stopped process would not notice SIGTERM.
  signalGroup(group, "SIGCONT")
  const begin = performance.now()
  let killed = false
  const look = () => {
    const passed = performance.now() - begin
    if (!isAlive(group) || passed > grace + patience) return end()
    if (passed >= grace && !killed) killed = signalGroup(group, "SIGKILL")
    setTimeout(look, Math.min(Math.max(passed / 4, 5), 100))
  }
  look()
}

/** Lets this process end. Reports that were sent are still delivered. */
const end = (): void => {
  child?.unref()
  if (process.connected) process.disconnect()
}

/** Stops the group when the lease has ended. Messages that have arrived come first: they may say that the lease was extended. */
const watchLease = (): void => {
  const left = deadline - performance.now()
  if (left > 0) return void setTimeout(watchLease, Math.min(left, 2 ** 30)).unref()
  setImmediate(() => {
    if (deadline > performance.now()) return watchLease()
    if (stopping) return
    report({ report: "overdue" })
    stop()
  })
}

process.on("message", (message: Order) => {
  switch (message.order) {
    case "start": {
      const [file = "", ...args] = message.command
      grace = message.grace
      child = spawn(file, args, { detached: true, stdio: "inherit" })
      child.once("spawn", () => report({ report: "started", group: child!.pid! }))
      child.once("error", (error: NodeJS.ErrnoException) => {
        report({ report: "failed", code: error.code ?? error.message })
        end()
      })
      child.once("exit", (code, signal) => {
        report({ report: "ended", code, signal })
        stop()
      })
      return
    }
    case "lease": {
      const first = deadline === Infinity
      deadline = performance.now() + message.left
      return first ? watchLease() : undefined
    }
    case "signal": {
      if (child?.pid !== undefined) signalGroup(child.pid, message.signal)
    }
  }
})
process.once("disconnect", stop)

// A signal to all processes of a service or of a machine is meant for the command, which must not lose its supervisor.
for (const signal of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"]) process.on(signal, () => {})
process.title = "effect-distributed-lock: supervisor"
