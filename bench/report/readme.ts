/** Writes the section of the README that shows the results: ratios only. */
import type { StoreName } from "../subjects/subject.ts"
import { table } from "./markdown.ts"
import { labelOf, spread, titles } from "./pages.ts"
import { hasFailed, isUnfair, ratioTo, typical, wasCutOff } from "./ratios.ts"
import type { Results, RowResults } from "./results.ts"

export const startMark = "<!-- Written by npm run bench. Do not edit. -->"
export const endMark = "<!-- The end of what npm run bench wrote. -->"

const cell = (results: RowResults, id: string): string => {
  const subject = results.subjects.find((subject) => subject.id === id)
  if (subject === undefined) return ""
  if (subject.notOffered !== undefined) return "not offered"
  const rounds = subject.sittings.flat()
  if (rounds.length === 0) return "not measured"
  if (hasFailed(rounds)) return "failed"
  const measure = results.row.compared[0]!
  const ratio = ratioTo(results, id, measure)
  return [
    ratio !== undefined ? spread(ratio) : typical(rounds, measure) === 0 ? "=" : "-",
    ...wasCutOff(rounds) ? ["†"] : [],
    ...isUnfair(rounds) ? ["‡"] : []
  ].join(" ")
}

const storeTable = (results: Results, store: StoreName): string => {
  const rows = results.rows.filter(({ row }) => row.store === store && row.shown)
  const others = results.subjects.filter((subject) => subject.store === store && subject.kind !== "ours")
  return [
    `### ${titles[store]}`,
    `![${titles[store]}: how many times better ours is](./bench/results/${store}.svg)`,
    table(
      ["", ...others.map(({ id }) => id)],
      rows.map((row) => [labelOf(row), ...others.map(({ id }) => cell(row, id))])
    )
  ].join("\n\n")
}

const shownStores: ReadonlyArray<StoreName> = ["redis", "postgres", "etcd", "sqlite"]

export const section = (results: Results): string =>
  [
    startMark,
    `How many times better ours is than the other, on the same server in the same run: the median of the sittings, with the
lowest and the highest. Above 1×, ours is faster (A, B, C, H), sends fewer requests while nothing happens (D, E) or has the
permits sooner (F). SQLite gets no requests: there, D and E compare the CPU. Floors are the least that the store can be asked for, one
operation for each caller, and keep no promise; ours is better where it shares a commit among callers.

≈ marks a ratio that another run may not reproduce within 20 %; † what was cut off or had failures; ‡ one that left most callers
out, because it gives the permit back to whoever released it; = that neither sends anything; - that nothing was measured.`,
    ...shownStores.filter((store) => results.rows.some(({ row }) => row.store === store))
      .map((store) => storeTable(results, store)),
    endMark
  ].join("\n\n")

/** Returns the README with a new section in the place of its present one. */
export const update = (readme: string, results: Results): string => {
  const [start, end] = [readme.indexOf(startMark), readme.indexOf(endMark)]
  if (start < 0 || end < 0) throw new Error(`The README has no lines "${startMark}" and "${endMark}"`)
  return readme.slice(0, start) + section(results) + readme.slice(end + endMark.length)
}
