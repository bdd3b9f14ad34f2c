/** The process in which one subject is measured, in one scenario after another. Its parent sends jobs, and ends it. */
import type { Outcome, Row } from "../report/results.ts"
import { scenarios } from "../scenarios/index.ts"
import { find } from "../subjects/index.ts"
import * as Counters from "./counters.ts"
import { track } from "./sockets.ts"

export interface Job {
  readonly row: Row
  readonly subject: string
  readonly url: string
  readonly number: number
}

process.once("disconnect", () => process.exit())

/** Callers that are left over when a scenario ends may fail: that is no failure of the next. */
process.on("unhandledRejection", () => {})

const run = async ({ number, row, subject: id, url }: Job): Promise<Outcome> => {
  const subject = find(row.store, id)
  const { cutOff, measures, note } = await scenarios[row.scenario]({
    subject,
    url,
    key: `bench-${process.pid}-${number}`,
    counters: await countersOf(subject, url),
    number: (parameter) => Number(row.parameters[parameter]),
    text: (parameter) => String(row.parameters[parameter]),
    open: (setting) => subject.open({ url, ttlMillis: 30_000, limit: 1, callers: 1, ...setting })
  })
  return { type: "measured", measures, ...(cutOff && { cutOff }), ...(note && { note }) }
}

let opened: Promise<Counters.Counters> | undefined
const countersOf = (...args: Parameters<typeof Counters.open>) =>
  opened ??= Counters.open(...args).then((counters) => {
    track()
    return counters
  })

process.on("message", (job: Job) => {
  run(job).catch((error: unknown): Outcome => ({
    type: "failed",
    reason: String(error instanceof Error ? error.message : error).slice(0, 300)
  })).then((outcome) => process.send!(outcome))
})
