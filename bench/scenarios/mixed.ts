/** C. Requests for 1 to 5 of 5 permits, mixed: does a large one wait longer than its turn? */
import { latencies, quantile, sleep, start } from "../measure/meter.ts"
import type { Client } from "../subjects/subject.ts"
import type { Context, Finding, Scenario } from "./scenario.ts"
import { crew, warmUp } from "./scenario.ts"

const limit = 5
const callers = 20
const workMillis = 5

export const mixed: Scenario = async (context) => {
  const client = await context.open({ callers, limit })
  await warmUp(client, context.key, 100)
  return () => measure(client, context)
}

const measure = async (client: Client, { counters, key, number }: Context): Promise<Finding> => {
  const asked = Array.from({ length: callers }, () => 0)
  const waits = new Map<number, Array<number>>()
  let over = false
  let held = 0
  let most = 0
  let permitSeconds = 0
  const { ended, start: launch, trouble } = crew(client)
  const meter = await start(counters)
  for (let caller = 0; caller < callers; caller++) {
    const permits = 1 + caller % limit
    launch({
      next: () => {
        if (over) return undefined
        asked[caller] = performance.now()
        return { key, permits }
      },
      holding: async () => {
        const wait = performance.now() - asked[caller]!
        if (waits.has(permits)) waits.get(permits)!.push(wait)
        else waits.set(permits, [wait])
        asked[caller] = 0
        held += permits
        most = Math.max(most, held)
        permitSeconds += permits * workMillis / 1000
        await sleep(workMillis)
        held -= permits
      }
    })
  }
  await sleep(number("millis"))
  over = true
  // A caller that still waits counts with the time that it has waited so far.
  const now = performance.now()
  for (let caller = 0; caller < callers; caller++) {
    const permits = 1 + caller % limit
    if (asked[caller]! > 0 && !waits.has(permits)) waits.set(permits, [now - asked[caller]!])
  }
  const all = Array.from(waits.values()).flat()
  const seconds = meter.seconds()
  const costs = await meter.stop(Math.max(1, all.length))
  await ended()
  const bySize = Array.from({ length: limit }, (_, index) => Math.round(quantile(waits.get(index + 1)!, 0.99)!))
  return {
    measures: {
      ...costs,
      ...latencies(all),
      details: { utilisation: permitSeconds / (limit * seconds), p99BySize: bySize, mostPermitsAtOnce: most }
    },
    cutOff: trouble(),
    note: `p99 wait for 1, 2, 3, 4, 5 permits: ${bySize.join(", ")} ms` +
      (most > limit ? `; ${most} PERMITS WERE OUT AT ONCE` : "")
  }
}
