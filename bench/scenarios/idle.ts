/** D and E. What it costs a second to hold, and to wait, while nothing happens. */
import { heap, sleep, start, until } from "../measure/meter.ts"
import type { Measures } from "../report/results.ts"
import type { Client } from "../subjects/subject.ts"
import type { Context, Finding, Scenario } from "./scenario.ts"
import { crew, hold, once, untilWaiting, warmUp } from "./scenario.ts"

const millisToHold = 40_000

/** Measures what a second costs in which nothing is done. There is no rate. */
const whileIdle = async ({ counters, number }: Context): Promise<Measures> => {
  const meter = await start(counters)
  await sleep(number("millis"))
  return { ...await meter.stop(meter.seconds()), rate: undefined }
}

/** Starts so many holds, a few at a time, and resolves to how many there are. */
export const holds = async (client: Client, keyOf: (index: number) => string, count: number) => {
  const { start: launch, trouble } = crew(client)
  let held = 0
  for (let index = 0; index < count; index++) {
    let asked = false
    launch({
      next: () => {
        if (asked) return undefined
        asked = true
        return { key: keyOf(index), permits: 1, long: true }
      },
      holding: () => {
        held++
        return new Promise<void>(() => {})
      }
    })
    if (index % 20 === 19) await sleep(5)
  }
  const all = await until(() => held >= count, millisToHold)
  return {
    trouble: () => trouble() ?? (all ? undefined : `only ${held} of ${count} held after ${millisToHold / 1000} s`)
  }
}

export const idleHolds: Scenario = async (context) => () => holdsAtRest(context)

const holdsAtRest = async (context: Context): Promise<Finding> => {
  const { key, number, open, text } = context
  const count = number("holds")
  const oneKey = text("of") === "one key"
  const client = await open({ callers: count, limit: oneKey ? count : 1, ttlMillis: number("ttlMillis") })
  await warmUp(client, key, 100)
  const before = heap()
  const { trouble } = await holds(client, (index) => oneKey ? key : `${key}-${index}`, count)
  await sleep(1000)
  const perHold = (heap() - before) / count
  return { measures: { ...await whileIdle(context), heap: perHold }, cutOff: trouble() }
}

export const idleWaiters: Scenario = async (context) => () => waitersAtRest(context)

const waitersAtRest = async (context: Context): Promise<Finding> => {
  const { key, number, open } = context
  const count = number("waiters")
  const client = await open({ callers: count + 1, ttlMillis: number("ttlMillis") })
  await warmUp(client, key, 100)
  await hold(client, key)
  const before = heap()
  let intruders = 0
  const { start: launch, trouble } = crew(client)
  for (let waiter = 0; waiter < count; waiter++) launch(once(key, () => void intruders++))
  const missing = await untilWaiting(client, key, count)
  await sleep(500)
  const perWaiter = (heap() - before) / count
  const measures = await whileIdle(context)
  return {
    measures: { ...measures, heap: perWaiter },
    cutOff: missing ?? trouble(),
    note: intruders === 0 ? undefined : `${intruders} ACQUIRED WHAT WAS HELD`
  }
}
