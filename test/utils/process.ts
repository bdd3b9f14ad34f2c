/** Processes of tests, which report by messages. */
import { Effect } from "effect"
import type { ChildProcess } from "node:child_process"
import { fork } from "node:child_process"

export interface Process {
  readonly child: ChildProcess
  /** What it has sent so far. */
  readonly messages: Array<any>
  /** Takes the next message, and waits for it if there is none. */
  readonly hears: Effect.Effect<any>
  readonly ended: Promise<number | NodeJS.Signals>
}

/** Starts a program of this folder. It is killed when the scope closes. */
export const startProcess = (program: string, ...args: ReadonlyArray<string | number>) =>
  Effect.acquireRelease(
    Effect.sync((): Process => {
      const child = fork(new URL(program, import.meta.url), args.map(String), {
        execArgv: ["--disable-warning=ExperimentalWarning"]
      })
      const messages: Array<unknown> = []
      let taken = 0
      child.on("message", (message) => messages.push(message))
      return {
        child,
        messages,
        hears: Effect.promise(async () => {
          const deadline = performance.now() + 120_000
          while (messages.length <= taken) {
            if (!child.connected || performance.now() > deadline) {
              throw new Error(`${[program, ...args].join(" ")} says nothing more`)
            }
            await new Promise((resolve) => setTimeout(resolve, 2))
          }
          return messages[taken++]
        }),
        ended: new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal!)))
      }
    }),
    ({ child, ended }) =>
      Effect.promise(() => {
        child.kill("SIGKILL")
        return ended
      })
  )
