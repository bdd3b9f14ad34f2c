/** Shows the state of the semaphore: drawn in place on a terminal, as plain lines elsewhere. */
import { Duration } from "effect"
import type { Backing } from "../src/index.ts"
import type { Event } from "./worker.ts"

export interface View {
  readonly state: (state: Backing.SemaphoreState) => void
  readonly event: (event: Event) => void
  readonly say: (text: string) => void
}

const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`

const bar = (part: number, whole: number, width: number) => {
  const full = Math.max(0, Math.min(width, Math.round(part / whole * width)))
  return "█".repeat(full) + "░".repeat(width - full)
}

const sentence = ({ happened, permits, token, worker }: Event) =>
  `${worker} ${happened}${happened === "asks" || happened === "holds" ? ` ${permits}` : ""}${
    token ? `, token ${token}` : ""
  }`

/** One line per event, with the time since the start. */
const plain = (): View => {
  const start = performance.now()
  const say = (text: string) => console.log(`${seconds(performance.now() - start).padStart(6)}  ${text}`)
  return { state: () => {}, event: (event) => say(sentence(event)), say }
}

const live = (title: string, limit: number, ttlMillis: number): View => {
  const news: Array<string> = []
  let drawn = 0
  const say = (text: string) => void news.splice(0, news.length, ...[...news, text].slice(-6))
  return {
    say,
    event: (event) => say(sentence(event)),
    state: ({ holders, line }) => {
      const out = holders.reduce((sum, { permits }) => sum + permits, 0)
      const rows = [
        `\x1b[1m${title}\x1b[0m`,
        "",
        `permits  ${bar(out, limit, limit)}  ${out} of ${limit} out`,
        "",
        ...holders.map(({ fencingToken, identifier, permits, remaining }) => {
          const left = Duration.toMillis(remaining)
          return `holds    \x1b[32m${identifier.padEnd(12)}\x1b[0m ${permits}  ${bar(left, ttlMillis, 20)} ${
            seconds(left)
          } left, token ${fencingToken}`
        }),
        ...line.map(({ identifier, permits }, place) =>
          `waits    \x1b[33m${identifier.padEnd(12)}\x1b[0m ${permits}  ${
            place === 0 ? "first in line" : `${place} ahead`
          }`
        ),
        "",
        ...news.map((text) => `\x1b[2m${text}\x1b[0m`)
      ]
      process.stdout.write(
        (drawn > 0 ? `\x1b[${drawn}A` : "") + rows.map((row) => `\x1b[2K${row}\n`).join("") + "\x1b[J"
      )
      drawn = rows.length
    }
  }
}

export const make = (title: string, limit: number, ttlMillis: number): View => {
  if (process.stdout.isTTY) return live(title, limit, ttlMillis)
  console.log(`${title}\n`)
  return plain()
}
