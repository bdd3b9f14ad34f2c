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

type Sittings = ReadonlyArray<ReadonlyArray<Measures>>

const outcomes = (sittings: Sittings) =>
  sittings.map((rounds) => rounds.map((measures) => ({ type: "measured", measures }) as const))

const rowResults = (ours: Sittings, theirs: Sittings): RowResults => ({
  row,
  subjects: [{ id: "ours", sittings: outcomes(ours) }, { id: "peer", sittings: outcomes(theirs) }]
})

/** Returns results of a row with one round in each sitting, where a peer has the rate 1. */
const rates = (...ours: ReadonlyArray<number>) =>
  rowResults(ours.map((rate) => [{ rate, cpu: 1 }]), ours.map(() => [{ rate: 1, cpu: 1 }]))

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

it("a ratio is the median of the sittings, of which each is the median of its rounds, and above 1 where ours is better", () => {
  const theirs = [{ rate: 10, cpu: 2 }, { rate: 10, cpu: 2 }, { rate: 10, cpu: 2 }]
  const all = rowResults(
    [
      [{ rate: 10, cpu: 1 }, { rate: 40, cpu: 2 }, { rate: 30, cpu: 3 }],
      [{ rate: 50, cpu: 1 }, { rate: 10, cpu: 1 }, { rate: 50, cpu: 1 }],
      [{ rate: 40, cpu: 4 }, { rate: 40, cpu: 4 }, { rate: 40, cpu: 4 }]
    ],
    [theirs, theirs, theirs]
  )
  expect(ratioTo(all, "peer", "rate")).toMatchObject({ median: 4, low: 3, high: 5 })
  expect(ratioTo(all, "peer", "cpu")).toMatchObject({ median: 1, low: 0.5, high: 2 })
})

it("a row is steady when its sittings say that another run would agree, and never after a single one", () => {
  expect(isRowSteady(rates(10, 10.5, 10.2))).toBe(true)
  expect(isRowSteady(rates(10, 11.5, 10.5))).toBe(false)
  expect(isRowSteady(rates(10, 11.5, 10.5, 11.2, 10.8, 11.4, 10.6))).toBe(true)
  expect(isRowSteady(rates(10))).toBe(false)
})

it("the README and the page say what failed, was cut off, is not offered, or was not measured", () => {
  const { subjects: [ours] } = rowResults([[{ rate: 10 }]], [])
  const cases = [
    [{ sittings: [[{ type: "failed", reason: "it fell over" }]] }, "failed", "failed: it fell over"],
    [
      { sittings: [[{ type: "measured", measures: { rate: 5 }, cutOff: "cut off after 3 s: 1 of 9 served" }]] },
      "†",
      "cut off after 3 s: 1 of 9 served"
    ],
    [{ sittings: [], notOffered: "its limit is 1" }, "not offered", "not offered: its limit is 1"],
    [{ sittings: [] }, "not measured", "not measured: the time was over"]
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
  const run = (rate: number) => results(rates(rate, rate))
  expect(compare(run(10), run(11.9))).toEqual({ compared: 2, unsteady: 0, disagreements: [] })
  expect(compare(run(10), run(12.1)).disagreements).toHaveLength(1)
  expect(compare(run(10), results(rates(10)))).toEqual({ compared: 0, unsteady: 2, disagreements: [] })
})
