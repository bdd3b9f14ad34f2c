/** Callers of one process that ask for one key again and again. */
import { sleep, until } from "../measure/meter.ts"
import type { Client } from "../subjects/subject.ts"
import { crew } from "./scenario.ts"

export interface Contention {
  /** How often each caller was served. */
  readonly served: ReadonlyArray<number>
  /** How long each acquisition took, in milliseconds, in the order in which they ended. */
  readonly waits: ReadonlyArray<number>
}

/** Makes callers that, once started, ask until they are stopped or the process ends. */
export const askAgainAndAgain = (client: Client, key: string, callers: number) => {
  const served = Array.from({ length: callers }, () => 0)
  const asked = Array.from({ length: callers }, () => 0)
  const waits: Array<number> = []
  let over = false
  const { ended, failures, start, trouble } = crew(client)
  const launch = () => {
    for (let caller = 0; caller < callers; caller++) {
      start({
        next: () => {
          if (over) return undefined
          asked[caller] = performance.now()
          return { key, permits: 1 }
        },
        holding: () => {
          served[caller]!++
          waits.push(performance.now() - asked[caller]!)
        }
      })
    }
  }
  return {
    start: launch,
    stop: async () => {
      over = true
      await ended()
    },
    trouble,
    report: (): Contention => ({ served: [...served], waits: [...waits] }),
    /** Waits until as many permits were acquired as there are callers, but no longer than `millis`. */
    untilUnderWay: (millis: number) => until(() => waits.length + failures() >= callers, millis)
  }
}

/** Has callers ask for a key of their own for a time, so that the code of waiting is compiled. At least one of them is served. */
export const warmUpInTurns = async (client: Client, key: string, callers: number, millis: number) => {
  const { start, stop } = askAgainAndAgain(client, `${key}-warm`, callers)
  start()
  await sleep(millis)
  await stop()
}

/** Returns what happened between two reports. */
export const since = (before: Contention, after: Contention): Contention => ({
  served: after.served.map((count, caller) => count - before.served[caller]!),
  waits: after.waits.slice(before.waits.length)
})
