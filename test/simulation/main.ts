/**
 * Runs the simulation: all seeds that ever failed, then fresh ones for a while (`--seconds`, `--minutes`) or so many
 * (`--runs`), `--from` a seed. `--seed` runs one seed again, and prints its story. `--planted` runs copies of the core
 * with faults, each of which must be found.
 */
import { setPriority } from "node:os"
import { parseArgs } from "node:util"
import type { Core } from "./core.ts"
import { load } from "./core.ts"
import { Coverage } from "./coverage.ts"
import * as Globals from "./globals.ts"
import * as Plans from "./plan.ts"
import { faults } from "./planted.ts"
import { seeds } from "./seeds.ts"
import { shrink } from "./shrink.ts"
import type { Result } from "./simulate.ts"
import { simulate } from "./simulate.ts"

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    minutes: { type: "string" },
    runs: { type: "string" },
    from: { type: "string" },
    seed: { type: "string" },
    planted: { type: "boolean", default: false },
    only: { type: "string", default: "" }
  }
})

// A long run gives way to other programs.
if (values.minutes !== undefined) setPriority(10)

const real = () => load("the core")

const report = (seed: string, { story, violation }: Result): void => {
  console.log(story.join("\n"))
  console.log(
    `Seed ${seed}: ${violation === undefined ? "nothing is wrong" : `${violation.promise}: ${violation.message}`}`
  )
}

const replay = async (seed: string): Promise<number> => {
  const plan = Plans.draw(seed)
  const result = simulate(await real(), plan, new Set(), true)
  report(seed, result)
  if (result.violation === undefined) return 0
  console.log("\nThe same, with everything taken away that it fails without:\n")
  report(seed, await shrink(real, plan))
  return 1
}

const search = async (): Promise<number> => {
  const coverage = new Coverage()
  const start = performance.now()
  const cpu = process.cpuUsage()
  const end = start + (values.minutes === undefined ? Number(values.seconds) * 1000 : Number(values.minutes) * 60_000)
  const from = values.from === undefined ? Date.now() : Number(values.from)
  let core = await real()
  let [runs, events] = [0, 0]
  const failures: Array<string> = []
  const run = async (seed: string) => {
    const result = simulate(core, Plans.draw(seed))
    runs++
    events += result.events
    coverage.add(result.coverage)
    if (result.violation === undefined) return
    failures.push(seed)
    report(seed, await shrink(real, Plans.draw(seed)))
    console.log(`Replay: npm run test:simulation -- --seed ${seed}\n`)
    core = await fresh()
  }
  for (const [seed] of seeds) await run(seed)
  let seed = from
  const goesOn = () => values.runs === undefined ? performance.now() < end : seed < from + Number(values.runs)
  for (; goesOn() && failures.length < 10; seed++) await run(String(seed))
  const seconds = (performance.now() - start) / 1000
  const { system, user } = process.cpuUsage(cpu)
  console.log(coverage.print())
  const missing = coverage.missing()
  if (runs >= 1000 && missing.length > 0) console.log(`Never came up: ${missing.join("; ")}`)
  console.log(
    `${runs} runs in ${seconds.toFixed(0)} s (${(runs / (user + system) * 60e6).toFixed(0)} per minute of one core), `
      + `${(events / runs).toFixed(0)} events each; seeds ${from} to ${seed - 1}; ${failures.length} failed`
  )
  return failures.length + (runs >= 1000 ? missing.length : 0)
}

/** Loads the core anew: a run that failed leaves things in its modules. */
const fresh = (): Promise<Core> => {
  Globals.forget()
  return real()
}

/** Tries each fault with the seed that found it last, then with fresh ones, for a minute at most. */
const plant = async (): Promise<number> => {
  let missed = 0
  for (const { fault, patches, seed } of faults.filter(({ fault }) => fault.includes(values.only))) {
    const start = performance.now()
    const core = await load(fault, patches)
    Globals.forget()
    let tried = 0
    let found: Result["violation"]
    let next = seed
    while (found === undefined && performance.now() < start + 60_000) {
      found = simulate(core, Plans.draw(next)).violation
      if (found === undefined) next = String(tried++)
    }
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    if (found === undefined) missed++
    console.log(
      `${fault}\n    ${
        found === undefined ? "NOT FOUND" : `${found.promise}: ${found.message.split("\n")[0]}`
      }\n    (seed ${next}, ${seconds} s)`
    )
  }
  console.log(`${faults.length - missed} of ${faults.length} planted faults were found`)
  return missed
}

const failed = values.seed !== undefined ? await replay(values.seed) : values.planted ? await plant() : await search()
process.exitCode = failed === 0 ? 0 : 1
