/** Measures what a stretch of work costs: time, CPU of this process, bytes, and what the store counts. */
import type { Measures } from "../report/results.ts"
import type { Counters, Counts } from "./counters.ts"
import { traffic } from "./sockets.ts"

export interface Meter {
  /** Ends the stretch, and divides its costs by the number of operations. */
  readonly stop: (operations: number) => Promise<Measures>
  readonly seconds: () => number
}

export const start = async (counters: Counters): Promise<Meter> => {
  const counted = await counters()
  const { bytes } = traffic()
  const cpu = process.cpuUsage()
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  return {
    seconds,
    stop: async (operations) => {
      const elapsed = seconds()
      const { system, user } = process.cpuUsage(cpu)
      const carried = traffic()
      const now = await counters()
      const since = (name: keyof Counts) =>
        now[name] === undefined ? undefined : (now[name] - (counted[name] ?? 0)) / operations
      return {
        rate: operations / elapsed,
        cpu: (user + system) / operations,
        requests: since("requests"),
        writes: since("writes"),
        walBytes: since("walBytes"),
        bytes: (carried.bytes - bytes) / operations,
        connections: carried.connections
      }
    }
  }
}

export const quantile = (values: ReadonlyArray<number>, share: number): number | undefined => {
  const sorted = Float64Array.from(values).toSorted()
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
}

/** Returns the median and the 99th percentile of latencies in milliseconds. */
export const latencies = (values: ReadonlyArray<number>): Measures => ({
  p50: quantile(values, 0.5),
  p99: quantile(values, 0.99)
})

/** Jain's index: 1 if all were served alike, 1/n if one was served alone. */
export const fairness = (served: ReadonlyArray<number>): number => {
  const sum = served.reduce((sum, count) => sum + count, 0)
  const squares = served.reduce((sum, count) => sum + count * count, 0)
  return squares === 0 ? 0 : sum * sum / (served.length * squares)
}

/** Returns how many bytes of the heap are in use. Needs --expose-gc. */
export const heap = (): number => {
  globalThis.gc!()
  return process.memoryUsage().heapUsed
}

export const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Waits for a condition. Resolves to whether it held before the time was over. */
export const until = async (condition: () => boolean | Promise<boolean>, millis: number): Promise<boolean> => {
  const deadline = performance.now() + millis
  while (!(await condition())) {
    if (performance.now() > deadline) return false
    await sleep(20)
  }
  return true
}
