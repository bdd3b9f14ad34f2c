/** Shows holders and waiters as a table. */
import { CliOutput } from "effect/cli"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type { ContenderState, SemaphoreState } from "../core/Backing.ts"
import { visible } from "./output.ts"

export const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? "" : "s"}`

const permitsOf = (contenders: ReadonlyArray<ContenderState>): number =>
  contenders.reduce((sum, { permits }) => sum + permits, 0)

const secondsLeft = (remaining: Duration.Duration, passedMillis = 0): string =>
  `${Math.max(0, (Duration.toMillis(remaining) - passedMillis) / 1000).toFixed(1)} s`

const pad = (text: string, width: number): string => text + " ".repeat(width - CliOutput.displayWidth(text))

/** Shows a time, without the date if it is today's. */
const time = (at: DateTime.Utc): string => {
  const [date, time] = DateTime.formatIso(at).replace(/\.\d+Z$/, "Z").split("T")
  return date === new Date().toISOString().slice(0, 10) ? time! : `${date}T${time}`
}

const columns = ["", "IDENTIFIER", "PERMITS", "TOKEN", "LEFT", "OWNER", "SINCE"]

const row = (state: string, contender: ContenderState, passedMillis: number): ReadonlyArray<string> => [
  state,
  visible(contender.identifier),
  String(contender.permits),
  String(contender.fencingToken),
  secondsLeft(contender.remaining, passedMillis),
  contender.owner === undefined ? "-" : visible(contender.owner),
  contender.since === undefined ? "-" : time(contender.since)
]

/**
 * Returns lines for a person: a summary, and a row for each of the first `most` holders and waiters, as it is `passedMillis` after the
 * snapshot.
 */
export const describe = (
  key: string,
  { holderCount, holders, line, waiterCount }: SemaphoreState,
  { most = Infinity, passedMillis = 0 } = {}
): ReadonlyArray<string> => {
  const held = holderCount > holders.length ? "" : `, with ${count(permitsOf(holders), "permit")}`
  const summary = `${visible(key)}: ${count(holderCount, "holder")}${
    holderCount === 0 ? "" : held
  }; ${waiterCount} waiting`
  const all = [
    ...holders.map((holder) => row("holds", holder, passedMillis)),
    ...line.map((waiter) => row("waits", waiter, passedMillis))
  ]
  if (all.length === 0) return [summary]
  const shown = all.slice(0, most)
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...shown.map((row) => CliOutput.displayWidth(row[index]!)))
  )
  const more = holderCount + waiterCount - shown.length
  return [
    summary,
    ...[columns, ...shown].map((row) => row.map((text, index) => pad(text, widths[index]!)).join("  ").trimEnd()),
    ...more > 0 ? [`… and ${more} more`] : []
  ]
}
