/** A. Acquire and release, uncontended: callers with a key each, again and again. */
import { latencies, start } from "../measure/meter.ts"
import type { Client } from "../subjects/subject.ts"
import type { Context, Measure, Scenario } from "./scenario.ts"

/** Runs cycles for a time. Resolves to how long each of them took, in milliseconds. */
export const cycles = async (
  client: Client,
  keyOf: (caller: number) => string,
  callers: number,
  millis: number
) => {
  const took: Array<number> = []
  const deadline = performance.now() + millis
  await Promise.all(Array.from({ length: callers }, (_, caller) => {
    let asked = 0
    let first = true
    return client.run({
      next: () => {
        asked = performance.now()
        if (!first && asked > deadline) return undefined
        first = false
        return { key: keyOf(caller), permits: 1 }
      },
      holding: () => {},
      released: () => void took.push(performance.now() - asked)
    })
  }))
  return took
}

const measured = (
  client: Client,
  { counters, number }: Context,
  keyOf: (caller: number) => string
): Measure =>
async () => {
  const meter = await start(counters)
  const took = await cycles(client, keyOf, number("callers"), number("millis"))
  return { measures: { ...await meter.stop(took.length), ...latencies(took) } }
}

/** How many callers warm a process up, whatever is measured: so that more cycles do. */
const warmers = 64

export const cycle: Scenario = async (context) => {
  const { key, number, open } = context
  const callers = number("callers")
  const client = await open({ callers: Math.max(callers, warmers) })
  const keyOf = (caller: number) => `${key}-${caller}`
  await cycles(client, keyOf, warmers, number("warmMillis"))
  return measured(client, context, keyOf)
}

/** G. Callers that go over many keys in turn. */
export const keys: Scenario = async (context) => {
  const { key, number, open } = context
  const callers = number("callers")
  const client = await open({ callers })
  let asked = 0
  const keyOf = () => `${key}-${asked++ % number("keys")}`
  await cycles(client, (caller) => `${key}-warm-${caller}`, callers, number("warmMillis"))
  return measured(client, context, keyOf)
}
