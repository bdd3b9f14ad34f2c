/** G. Cost by the number of permits, and of holders. (By the number of keys: see cycle.ts.) */
import { latencies, start } from "../measure/meter.ts"
import type { Client } from "../subjects/subject.ts"
import { holds } from "./idle.ts"
import type { Context, Measure, Scenario } from "./scenario.ts"

/** Warms the process up. Resolves to what measures cycles of one caller. */
const oneAfterAnother = async (
  context: Context,
  client: Client,
  key: string,
  permits: number,
  trouble: () => string | undefined = () => undefined
): Promise<Measure> => {
  const cyclesFor = async (millis: number) => {
    const took: Array<number> = []
    const deadline = performance.now() + millis
    let asked = 0
    await client.run({
      next: () => {
        asked = performance.now()
        return took.length < 5 || asked < deadline ? { key, permits } : undefined
      },
      holding: () => {},
      released: () => void took.push(performance.now() - asked)
    })
    return took
  }
  await cyclesFor(context.number("warmMillis"))
  return async () => {
    const meter = await start(context.counters)
    const took = await cyclesFor(context.number("millis"))
    return { measures: { ...await meter.stop(took.length), ...latencies(took) }, cutOff: trouble() }
  }
}

export const permits: Scenario = async (context) => {
  const count = context.number("permits")
  const client = await context.open({ limit: count })
  return oneAfterAnother(context, client, context.key, count)
}

export const holders: Scenario = async (context) => {
  const count = context.number("holders")
  const client = await context.open({ callers: count + 1, limit: count + 1, ttlMillis: 300_000 })
  const { trouble } = await holds(client, () => context.key, count)
  return oneAfterAnother(context, client, context.key, 1, trouble)
}
