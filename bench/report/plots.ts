/** The plots, drawn by vega-lite: it writes SVG without a browser or a DOM. */
import * as Vega from "vega"
import type { TopLevelSpec } from "vega-lite"
import { compile } from "vega-lite"
import type { StoreName } from "../subjects/subject.ts"
import { labelOf, titles } from "./pages.ts"
import { ratioTo, typical } from "./ratios.ts"
import type { Results, RowResults } from "./results.ts"

const draw = (specification: TopLevelSpec): Promise<string> =>
  new Vega.View(Vega.parse(compile(specification).spec), { renderer: "none" }).toSVG()

const look = {
  $schema: "https://vega.github.io/schema/vega-lite/v6.json",
  background: "white",
  padding: 8,
  config: { font: "sans-serif", axis: { labelLimit: 600 }, legend: { labelLimit: 600, orient: "bottom", columns: 3 } }
} as const

/** Ratios beyond these are drawn at the edge. */
const edges = [0.02, 200] as const
const within = (value: number) => Math.min(edges[1], Math.max(edges[0], value))

const ratiosOf = (results: RowResults) =>
  results.subjects.flatMap(({ id }) => {
    const ratio = id === "ours" ? undefined : ratioTo(results, id, results.row.compared[0]!)
    if (ratio === undefined) return []
    return [{
      scenario: labelOf(results),
      subject: id,
      ratio: within(ratio.median),
      low: within(ratio.low),
      high: within(ratio.high)
    }]
  })

/** The plot of ours against every other subject, in every scenario that the README shows. */
const ratios = (results: Results, store: StoreName): TopLevelSpec => {
  const rows = results.rows.filter(({ row }) => row.store === store && row.shown)
  const scenarios = rows.map(labelOf)
  const subjects = results.subjects.filter((subject) => subject.store === store && subject.kind !== "ours")
  const place = {
    y: { field: "scenario", type: "nominal", sort: scenarios, title: null, axis: { grid: true, ticks: false } },
    yOffset: { field: "subject", sort: subjects.map(({ id }) => id) },
    color: { field: "subject", type: "nominal", sort: subjects.map(({ id }) => id), title: null }
  } as const
  return {
    ...look,
    title: `${titles[store]}: how many times better ours is (logarithmic; below ${edges[0]} and above ${
      edges[1]
    } at the edge)`,
    width: 520,
    height: { step: 11 },
    data: { values: rows.flatMap(ratiosOf) },
    layer: [
      { mark: { type: "rule", color: "black" }, encoding: { x: { datum: 1, type: "quantitative", title: null } } },
      {
        mark: { type: "rule", strokeWidth: 2 },
        encoding: { ...place, x: { field: "low", type: "quantitative", title: null }, x2: { field: "high" } }
      },
      {
        mark: { type: "point", filled: true, size: 45, opacity: 1 },
        encoding: {
          ...place,
          x: {
            field: "ratio",
            type: "quantitative",
            scale: { type: "log", domain: [...edges], nice: false },
            axis: { orient: "top", format: "~g", values: [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200] },
            title: null
          }
        }
      }
    ],
    resolve: { axis: { x: "shared" } }
  }
}

/** The plot of how hand-offs scale with the number of waiters, relative to ours with the fewest waiters. */
const handOffs = (results: Results, store: StoreName): TopLevelSpec | undefined => {
  const drains = results.rows.filter(({ row }) =>
    row.store === store && row.medium !== "disk" && row.scenario === "drain"
  )
  const rateOf = ({ subjects }: RowResults, id: string) =>
    typical(subjects.find((subject) => subject.id === id)?.sittings.flat() ?? [], "rate")
  const base = drains[0] && rateOf(drains[0], "ours")
  if (drains.length < 2 || base === undefined) return undefined
  return {
    ...look,
    title: `${titles[store]}: hand-offs per second, by waiters (ours with ${drains[0]!.row.size} = 1)`,
    width: 520,
    height: 260,
    data: {
      values: drains.flatMap((drain) =>
        drain.subjects.flatMap(({ id }) => {
          const rate = rateOf(drain, id)
          return rate === undefined || rate === 0
            ? []
            : [{ subject: id, waiters: drain.row.size, relative: rate / base }]
        })
      )
    },
    mark: { type: "line", point: true },
    encoding: {
      x: {
        field: "waiters",
        type: "quantitative",
        scale: { type: "log" },
        axis: { values: drains.map(({ row }) => row.size) }
      },
      y: { field: "relative", type: "quantitative", scale: { type: "log" }, title: null },
      color: { field: "subject", type: "nominal", title: null }
    }
  }
}

/** Returns the plots by the names of their files, without the extension. */
export const plots = async (results: Results, store: StoreName): Promise<Record<string, string>> => {
  const scaling = handOffs(results, store)
  return {
    [store]: await draw(ratios(results, store)),
    ...scaling && { [`${store}-hand-off`]: await draw(scaling) }
  }
}
