/** A process that holds keys until it is killed, or that asks for one again and again. */
import { sleep } from "../measure/meter.ts"
import { find } from "../subjects/index.ts"
import { askAgainAndAgain, since } from "./contention.ts"
import type { LoopReport, Order, Task } from "./processes.ts"
import { hold, warmUp } from "./scenario.ts"

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

/** A subject that polls may leave some processes unserved for a long time: the measurement then begins without them. */
const millisToGetUnderWay = 5000

const loop = async () => {
  const key = keys[0]!
  await warmUp(client, `${key}-${process.pid}`, 200)
  let callersOfThis = askAgainAndAgain(client, key, callers)
  let before = callersOfThis.report()
  let cpu = process.cpuUsage()
  const carryOut: Record<Order, () => unknown> = {
    go: () => {
      callersOfThis = askAgainAndAgain(client, key, callers)
      callersOfThis.start()
      return callersOfThis.untilUnderWay(millisToGetUnderWay)
    },
    measure: () => {
      before = callersOfThis.report()
      cpu = process.cpuUsage()
    },
    report: (): LoopReport => {
      const { system, user } = process.cpuUsage(cpu)
      return { ...since(before, callersOfThis.report()), cpu: system + user }
    },
    stop: () => callersOfThis.stop()
  }
  process.on("message", async (order: Order) => process.send!(await carryOut[order]() ?? "done"))
  process.send!("ready")
}

await (task.type === "hold" ? holdAll() : loop())
