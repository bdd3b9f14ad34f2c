/** A process that holds keys until it is killed, or that asks for one again and again. */
import { sleep } from "../measure/meter.ts"
import { find } from "../subjects/index.ts"
import type { LoopReport, Task } from "./processes.ts"
import { crew, hold, warmUp } from "./scenario.ts"

process.once("disconnect", () => process.exit())

const task: Task = JSON.parse(process.argv[2]!)
const { callers, keys, ttlMillis, url } = task
const client = await find(task.store, task.subject).open({ url, ttlMillis, limit: 1, callers })

const holdAll = async () => {
  for (const key of keys) {
    await hold(client, key)
    await sleep(50)
  }
  process.send!("held")
}

const askAgainAndAgain = async () => {
  const key = keys[0]!
  await warmUp(client, `${key}-${process.pid}`, 200)
  const served = Array.from({ length: callers }, () => 0)
  const asked = Array.from({ length: callers }, () => 0)
  const waits: Array<number> = []
  let over = false
  const { start } = crew(client)
  const go = () => {
    const before = process.cpuUsage()
    for (let caller = 0; caller < callers; caller++) {
      start({
        next: () => {
          if (over) return undefined
          asked[caller] = performance.now()
          return { key, permits: 1 }
        },
        holding: () => {
          if (over) return
          served[caller]!++
          waits.push(performance.now() - asked[caller]!)
        }
      })
    }
    return before
  }
  let before = process.cpuUsage()
  process.on("message", (order) => {
    if (order === "go") before = go()
    else {
      over = true
      const { system, user } = process.cpuUsage(before)
      const report: LoopReport = { served, waits, cpu: system + user }
      process.send!(report)
    }
  })
  process.send!("ready")
}

await (task.type === "hold" ? holdAll() : askAgainAndAgain())
