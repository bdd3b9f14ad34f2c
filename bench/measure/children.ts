/** Measures subjects in processes of their own, and gives up those that take too long. */
import type { ChildProcess } from "node:child_process"
import { fork } from "node:child_process"
import * as Path from "node:path"
import type { Outcome } from "../report/results.ts"
import type { Answer, Job, Order } from "./child.ts"

let jobs = 0

export const spawn = (): ChildProcess =>
  fork(new URL("./child.ts", import.meta.url), {
    // This keeps compiled code: a short run spends most of its time on loading code.
    env: { ...process.env, NODE_COMPILE_CACHE: Path.join(import.meta.dirname, "..", "..", ".tmp", "bench-code") },
    execArgv: ["--expose-gc", "--disable-warning=ExperimentalWarning"],
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"]
  })

export const end = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.once("exit", () => resolve())
    child.kill("SIGKILL")
  })

/** Gives a child an order. If this fails, the child is of no further use. */
const ask = (child: ChildProcess, order: Order, limitSeconds: number): Promise<Answer> =>
  new Promise((resolve) => {
    let complaints = ""
    const listen = (chunk: Buffer) => complaints = (complaints + chunk.toString()).slice(-300)
    const failed = (reason: string) => done({ type: "failed", reason })
    const exited = () => failed(`its process ended: ${complaints.trim()}`)
    const timer = setTimeout(() => failed(`cut off after ${limitSeconds} s`), limitSeconds * 1000)
    const done = (answer: Answer) => {
      clearTimeout(timer)
      child.off("exit", exited).off("message", done)
      child.stderr!.off("data", listen)
      resolve(answer)
    }
    child.stderr!.on("data", listen)
    child.once("exit", exited).once("message", done)
    child.send(order)
  })

/** Makes a child ready to be measured. Resolves to its failure, if it fails. */
export const prepare = async (
  child: ChildProcess,
  job: Omit<Job, "number">,
  limitSeconds: number
): Promise<Outcome | undefined> => {
  const answer = await ask(child, { ...job, number: jobs++ }, limitSeconds)
  return answer.type === "ready" ? undefined : answer
}

/** Measures what the child was prepared for. */
export const measure = (child: ChildProcess, limitSeconds: number): Promise<Outcome> =>
  ask(child, "measure", limitSeconds) as Promise<Outcome>
