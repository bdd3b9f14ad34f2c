/** F and H: the scenarios that need several processes. */
import type { ChildProcess } from "node:child_process"
import { fork } from "node:child_process"
import { fairness, latencies, quantile, sleep, start, until } from "../measure/meter.ts"
import type { Measures } from "../report/results.ts"
import type { Contention } from "./contention.ts"
import type { Context, Finding, Scenario } from "./scenario.ts"
import { crew, once } from "./scenario.ts"

/** What another process must do. */
export interface Task {
  readonly type: "hold" | "loop"
  readonly subject: string
  readonly store: string
  readonly url: string
  readonly ttlMillis: number
  readonly keys: ReadonlyArray<string>
  readonly callers: number
}

/** What a process that loops is told. It answers each order once it is carried out. */
export type Order = "go" | "measure" | "report" | "stop"

export interface LoopReport extends Contention {
  /** Microseconds. */
  readonly cpu: number
}

const another = ({ subject, url }: Context, task: Pick<Task, "type" | "ttlMillis" | "keys" | "callers">) => {
  const all: Task = { ...task, subject: subject.id, store: subject.store, url }
  return fork(new URL("./otherProcess.ts", import.meta.url), [JSON.stringify(all)], { serialization: "advanced" })
}

const message = (child: ChildProcess): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const exited = () => reject(new Error("A process of the scenario ended early"))
    child.once("exit", exited).once("message", (message) => {
      child.off("exit", exited)
      resolve(message)
    })
  })

const keysOfHolder = 8

/** A process that holds some keys is killed: how long until somebody in this process has them? */
export const crash: Scenario = async (context) => () => killed(context)

const killed = async (context: Context): Promise<Finding> => {
  const ttlMillis = context.number("ttlMillis")
  const keys = Array.from({ length: keysOfHolder }, (_, index) => `${context.key}-${index}`)
  const client = await context.open({ callers: keysOfHolder, ttlMillis })
  const holder = another(context, { type: "hold", ttlMillis, keys, callers: keysOfHolder })
  // It acquires them one by one, so that its leases end at different times.
  await message(holder)
  const { start: launch, trouble } = crew(client)
  const acquired: Array<number> = []
  for (const key of keys) launch(once(key, () => void acquired.push(performance.now())))
  await sleep(300 + 300 * Math.random())
  const stolen = acquired.length
  const began = performance.now()
  holder.kill("SIGKILL")
  const all = await until(() => acquired.length >= keysOfHolder, context.number("capMillis"))
  const delays = acquired.slice(stolen).map((time) => time - began)
  return {
    measures: {
      ...latencies(delays),
      details: { delays: delays.map(Math.round) }
    },
    cutOff: trouble() ?? (all
      ? undefined
      : `cut off after ${context.number("capMillis") / 1000} s: ${acquired.length} of ${keysOfHolder} acquired`),
    note: delays.length === 0
      ? undefined
      : `longest ${Math.round(quantile(delays, 1)!)} ms` + (stolen > 0 ? `; ${stolen} ACQUIRED BEFORE THE CRASH` : "")
  }
}

/** Several processes ask for one key, again and again, with some callers each. They end with this process. */
export const processes: Scenario = async (context) => {
  const callers = context.number("callers")
  const children = Array.from(
    { length: context.number("processes") },
    () => another(context, { type: "loop", ttlMillis: 30_000, keys: [context.key], callers })
  )
  const order = (order: Order): Promise<ReadonlyArray<unknown>> =>
    Promise.all(children.map((child) => {
      child.send(order)
      return message(child)
    }))
  await Promise.all(children.map(message))
  await order("go")
  await sleep(context.number("warmMillis"))
  await order("stop")
  return async () => {
    await order("go")
    const meter = await start(context.counters)
    await order("measure")
    await sleep(context.number("millis"))
    const seconds = meter.seconds()
    const reports = await order("report") as ReadonlyArray<LoopReport>
    const waits = reports.flatMap(({ waits }) => waits)
    const costs: Measures = await meter.stop(Math.max(1, waits.length))
    await order("stop")
    return {
      measures: {
        ...latencies(waits),
        rate: waits.length / seconds,
        // The CPU of the processes that ask, not of this one.
        cpu: reports.reduce((sum, { cpu }) => sum + cpu, 0) / Math.max(1, waits.length),
        requests: costs.requests,
        writes: costs.writes,
        walBytes: costs.walBytes,
        fairness: fairness(reports.flatMap(({ served }) => served))
      }
    }
  }
}
