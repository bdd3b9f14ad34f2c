/** The process in which one subject is measured. Its parent sends orders, one at a time, and ends it. */
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

/** Prepare this job, or measure what was prepared last. */
export type Order = Job | "measure"

export type Answer = Outcome | { readonly type: "ready" }

process.once("disconnect", () => process.exit())

/** Callers that are left over when a scenario ends may fail: that is no failure of the next. */
process.on("unhandledRejection", () => {})

/** Opens and warms up what a job needs. Resolves to what measures it. */
const prepare = async ({ number, row, subject: id, url }: Job): Promise<() => Promise<Outcome>> => {
  const subject = find(row.store, id)
  const measure = await scenarios[row.scenario]({
    subject,
    url,
    key: `bench-${process.pid}-${number}`,
    counters: await countersOf(subject, url),
    number: (parameter) => Number(row.parameters[parameter]),
    text: (parameter) => String(row.parameters[parameter]),
    open: (setting) => subject.open({ url, ttlMillis: 30_000, limit: 1, callers: 1, ...setting })
  })
  return async () => {
    const { cutOff, measures, note } = await measure()
    return { type: "measured", measures, ...(cutOff && { cutOff }), ...(note && { note }) }
  }
}

let opened: Promise<Counters.Counters> | undefined
const countersOf = (...args: Parameters<typeof Counters.open>) =>
  opened ??= Counters.open(...args).then((counters) => {
    track()
    return counters
  })

let measure: () => Promise<Outcome>

const answer = async (order: Order): Promise<Answer> => {
  if (order !== "measure") {
    measure = await prepare(order)
    return { type: "ready" }
  }
  return measure()
}

process.on("message", (order: Order) => {
  answer(order).catch((error: unknown): Answer => ({
    type: "failed",
    reason: String(error instanceof Error ? error.message : error).slice(0, 300)
  })).then((answer) => process.send!(answer))
})
