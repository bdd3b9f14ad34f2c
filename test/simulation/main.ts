/** Runs the simulation: fresh seeds for a while, or one seed again. */
import { parseArgs } from "node:util"
import { load } from "./core.ts"
import { Coverage } from "./coverage.ts"
import * as Globals from "./globals.ts"
import * as Plans from "./plan.ts"
import { simulate } from "./simulate.ts"

const { values } = parseArgs({
  options: { minutes: { type: "string" }, seed: { type: "string" }, from: { type: "string" } }
})

if (values.seed !== undefined) {
  const core = await load("real")
  const plan = Plans.draw(values.seed)
  const result = simulate(core, plan, new Set(), true)
  console.log(JSON.stringify(plan, undefined, 1))
  console.log(result.story.join("\n"))
  console.log(result.violation)
} else {
  let core = await load("real")
  const coverage = new Coverage()
  const end = performance.now() + Number(values.minutes ?? 1) * 60_000
  const from = Number(values.from ?? 0)
  let seed = from
  let failures = 0
  let events = 0
  for (; performance.now() < end && failures < 10; seed++) {
    const result = simulate(core, Plans.draw(String(seed)))
    coverage.add(result.coverage)
    events += result.events
    if (result.violation === undefined) continue
    failures++
    console.log(seed, result.violation)
    Globals.forget()
    core = await load("real")
  }
  console.log(coverage.print())
  console.log(seed - from, "runs", events, "events", failures, "failures")
}
