/** B. Hand-offs on one key of limit 1, among callers of one process. */
import { fairness, heap, latencies, sleep, start, until } from "../measure/meter.ts"
import { askAgainAndAgain, since, warmUpInTurns } from "./contention.ts"
import type { Finding, Scenario } from "./scenario.ts"
import { crew, hold, once, untilWaiting } from "./scenario.ts"

/** All callers wait behind one holder, which then releases; each acquires once. It is repeated on new keys for a time. */
export const drain: Scenario = async ({ counters, key, number, open }) => {
  const waiters = number("waiters")
  const client = await open({ callers: waiters + 1 })

  const gather = async (key: string, holding: () => void) => {
    const release = await hold(client, key)
    const { failures, start: launch, trouble } = crew(client)
    for (let waiter = 0; waiter < waiters; waiter++) launch(once(key, holding))
    return { release, failures, trouble, missing: await untilWaiting(client, key, waiters) }
  }

  /** It is measured before the process warms up, because a collection of garbage makes compiled code slow again. */
  const heapPerWaiter = async () => {
    const before = heap()
    let served = 0
    const { release } = await gather(`${key}-heap`, () => served++)
    const perWaiter = (heap() - before) / waiters
    release()
    await until(() => served >= waiters, number("capMillis"))
    return perWaiter
  }

  const drainOnce = async (key: string): Promise<Finding> => {
    let served = 0
    let last = 0
    const gaps: Array<number> = []
    const { failures, missing, release, trouble } = await gather(key, () => {
      served++
      const now = performance.now()
      gaps.push(now - last)
      last = now
    })
    const meter = await start(counters)
    last = performance.now()
    release()
    const all = await until(() => served + failures() >= waiters, number("capMillis"))
    // The end counts from the last caller that was served: it is polled every 20 ms, and a short drain takes less.
    const seconds = all && served > 0 ? meter.seconds() - (performance.now() - last) / 1000 : meter.seconds()
    const costs = await meter.stop(Math.max(1, served))
    const cutOff = all ? trouble() : `cut off after ${number("capMillis") / 1000} s: ${served} of ${waiters} served`
    return { measures: { ...costs, rate: served / seconds, ...latencies(gaps) }, cutOff: missing ?? cutOff }
  }

  const warmMillis = number("warmMillis")
  await warmUpInTurns(client, key, Math.min(waiters, 100), warmMillis / 4)
  const perWaiter = await heapPerWaiter()
  await warmUpInTurns(client, key, Math.min(waiters, 100), warmMillis)
  let repetition = 0
  return async () => {
    const findings: Array<Finding> = []
    const deadline = performance.now() + number("millis")
    do {
      const { cutOff, measures } = await drainOnce(`${key}-${repetition++}`)
      const finding = { measures: { ...measures, heap: perWaiter }, cutOff }
      if (cutOff !== undefined) return finding
      findings.push(finding)
    } while (performance.now() < deadline)
    return findings.toSorted((a, b) => a.measures.rate! - b.measures.rate!)[findings.length >> 1]!
  }
}

/** Each caller asks again as soon as it has released. It is measured once as many permits were acquired as there are callers. */
export const loop: Scenario = async ({ counters, key, number, open }) => {
  const callers = number("callers")
  const client = await open({ callers })
  await warmUpInTurns(client, key, callers, number("warmMillis"))
  return async () => {
    const { report, start: launch, stop, trouble, untilUnderWay } = askAgainAndAgain(client, key, callers)
    launch()
    await untilUnderWay(2 * number("millis"))
    const meter = await start(counters)
    const before = report()
    await sleep(number("millis"))
    const seconds = meter.seconds()
    const { served, waits } = since(before, report())
    const never = served.filter((count) => count === 0).length
    const costs = await meter.stop(Math.max(1, waits.length))
    await stop()
    return {
      measures: { ...costs, rate: waits.length / seconds, ...latencies(waits), fairness: fairness(served) },
      cutOff: trouble(),
      note: never === 0 ? undefined : `${never} of ${callers} not served in ${number("millis") / 1000} s`
    }
  }
}
