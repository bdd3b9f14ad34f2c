/** What the README says of the benchmarks is what was measured. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, it } from "vitest"
import { compare } from "../bench/report/compare.ts"
import { page } from "../bench/report/pages.ts"
import { isRowSteady, ratioTo, remarks } from "../bench/report/ratios.ts"
import { section, update } from "../bench/report/readme.ts"
import type { Measures, Results, Row, RowResults } from "../bench/report/results.ts"

const root = Path.resolve(import.meta.dirname, "..")
const file = (...path: ReadonlyArray<string>) => Fs.readFileSync(Path.join(root, ...path), "utf8")
const measured: Results = JSON.parse(file("bench", "results", "results.json"))

it("the README shows the committed results, and nothing else", () => {
  const readme = file("README.md")
  expect(update(readme, measured)).toBe(readme)
})

it("the page of each store shows the committed results", () => {
  for (const store of new Set(measured.rows.map(({ row }) => row.store))) {
    expect(file("bench", "results", `${store}.md`)).toBe(page(measured, store))
  }
})

it("the plots that the README shows exist", () => {
  const plots = Array.from(section(measured).matchAll(/\]\(\.\/(.*?\.svg)\)/g), ([, path]) => path!)
  expect(plots.length).toBeGreaterThanOrEqual(3)
  for (const plot of plots) expect(file(plot)).toContain("<svg")
})

const row: Row = {
  scenario: "cycle",
  label: "A",
  store: "redis",
  medium: "memory",
  operation: "cycle",
  compared: ["rate", "cpu"],
  size: 1,
  shown: true,
  parameters: {}
}

const rounds = (...all: ReadonlyArray<Measures>) => all.map((measures) => ({ type: "measured", measures }) as const)

const rowResults = (
  ours: ReadonlyArray<Measures>,
  theirs: ReadonlyArray<Measures>
): RowResults => ({
  row,
  subjects: [{ id: "ours", rounds: rounds(...ours) }, { id: "peer", rounds: rounds(...theirs) }]
})

const results = (...rows: ReadonlyArray<RowResults>): Results => ({
  ...measured,
  subjects: [{ id: "ours", store: "redis", kind: "ours", options: "" }, {
    id: "peer",
    store: "redis",
    kind: "peer",
    options: ""
  }],
  rows
})

it("a ratio is the median of the rounds' ratios, and above 1 where ours is better", () => {
  const all = rowResults(
    [{ rate: 10, cpu: 1 }, { rate: 40, cpu: 2 }, { rate: 30, cpu: 3 }],
    [{ rate: 10, cpu: 2 }, { rate: 10, cpu: 2 }, { rate: 10, cpu: 2 }]
  )
  expect(ratioTo(all, "peer", "rate")).toMatchObject({ median: 3, low: 1, high: 4, rounds: 3 })
  expect(ratioTo(all, "peer", "cpu")).toMatchObject({ median: 1, low: 2 / 3, high: 2 })
})

it("a row is steady when its ratios are, and never after two rounds", () => {
  const steady = [{ rate: 10, cpu: 1 }, { rate: 11, cpu: 1 }, { rate: 10, cpu: 1 }]
  const theirs = steady.map(() => ({ rate: 10, cpu: 1 }))
  expect(isRowSteady(rowResults(steady, theirs))).toBe(true)
  expect(isRowSteady(rowResults(steady.slice(1), theirs.slice(1)))).toBe(false)
  expect(isRowSteady(rowResults([{ rate: 10, cpu: 1 }, { rate: 40, cpu: 1 }, { rate: 20, cpu: 1 }], theirs))).toBe(
    false
  )
})

it("the README and the page say what failed, was cut off, is not offered, or was not measured", () => {
  const { subjects: [ours] } = rowResults([{ rate: 10 }], [])
  const cases = [
    [{ rounds: [{ type: "failed", reason: "it fell over" }] }, "failed", "failed: it fell over"],
    [
      { rounds: [{ type: "measured", measures: { rate: 5 }, cutOff: "cut off after 3 s: 1 of 9 served" }] },
      "†",
      "cut off after 3 s: 1 of 9 served"
    ],
    [{ rounds: [], notOffered: "its limit is 1" }, "not offered", "not offered: its limit is 1"],
    [{ rounds: [] }, "not measured", "not measured: the time was over"]
  ] as const
  for (const [subject, inReadme, onPage] of cases) {
    const all = results({ row, subjects: [ours!, { id: "peer", ...subject }] })
    const line = section(all).split("\n").find((line) => line.startsWith("| A"))
    expect(line).toContain(inReadme)
    expect(page(all, "redis")).toContain(onPage)
    expect(remarks({ id: "peer", ...subject })).toContain(onPage)
  }
})

it("two runs disagree where a steady ratio differs by more than a fifth", () => {
  const three = (measures: Measures) => [measures, measures, measures]
  const run = (rate: number) => results(rowResults(three({ rate, cpu: 1 }), three({ rate: 1, cpu: 1 })))
  expect(compare(run(10), run(11.9))).toEqual({ compared: 2, unsteady: 0, disagreements: [] })
  expect(compare(run(10), run(12.1)).disagreements).toHaveLength(1)
  const unsteady = results(rowResults([{ rate: 10, cpu: 1 }], [{ rate: 1, cpu: 1 }]))
  expect(compare(run(10), unsteady)).toEqual({ compared: 0, unsteady: 2, disagreements: [] })
})
