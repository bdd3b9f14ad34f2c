/** A page for each store, with all measures. */
import type { StoreName } from "../subjects/subject.ts"
import { number, table, times } from "./markdown.ts"
import { isSteady, ratioTo, remarks, typical } from "./ratios.ts"
import type { Ratio } from "./ratios.ts"
import type { Results, RowResults } from "./results.ts"

export const titles: Readonly<Record<StoreName, string>> = {
  memory: "Memory",
  redis: "Redis",
  postgres: "PostgreSQL",
  etcd: "etcd",
  sqlite: "SQLite"
}

export const labelOf = ({ row }: RowResults): string =>
  row.store === "redis" || row.store === "memory" ? row.label : `${row.label} (${row.medium})`

const compared: Readonly<Record<string, string>> = {
  rate: "rate",
  p50: "p50",
  cpu: "CPU",
  requests: "requests"
}

export const spread = (ratio: Ratio): string => {
  const [low, high] = [times(ratio.low), times(ratio.high)]
  const range = low === high ? "" : ` (${low}–${high})`
  return `${isSteady(ratio) ? "" : "≈ "}${times(ratio.median)}${range}`
}

const head = [
  "scenario",
  "subject",
  "ours is better by",
  "rate /s",
  "p50 ms",
  "p99 ms",
  "CPU µs",
  "requests",
  "writes",
  "bytes",
  "connections",
  "heap bytes",
  "fairness",
  "sittings",
  "rounds",
  "remarks"
]

const linesOf = (results: RowResults): ReadonlyArray<ReadonlyArray<string>> =>
  results.subjects.map((subject) => {
    const { id, sittings } = subject
    const rounds = sittings.flat()
    const value = (measure: Parameters<typeof typical>[1]) => number(typical(rounds, measure))
    const better = results.row.compared.flatMap((measure) => {
      const ratio = id === "ours" ? undefined : ratioTo(results, id, measure)
      return ratio === undefined ? [] : [`${compared[measure]} ${spread(ratio)}`]
    })
    return [
      labelOf(results),
      id,
      better.join(", "),
      value("rate"),
      value("p50"),
      value("p99"),
      value("cpu"),
      value("requests"),
      value("writes"),
      value("bytes"),
      value("connections"),
      value("heap"),
      value("fairness"),
      String(sittings.length),
      String(rounds.length),
      remarks(subject).join("; ")
    ]
  })

const explanation =
  `CPU (of the client), requests, writes (commits or raft proposals) and bytes are for each operation: a cycle,
a hand-off, an acquisition; in D and E a second in which nothing happens. Connections and heap (for each hold or waiter)
are the client's. "Ours is better by" is the median of the sittings' ratios, with the lowest and the highest; ≈ marks one
that another run may not reproduce within 20 %. Floors are the least that a store can be asked for: they keep no promise.
In F, p50 is the time from the crash to the next holder. Fairness is Jain's index.`

export const page = (results: Results, store: StoreName): string => {
  const rows = results.rows.filter(({ row }) => row.store === store)
  const facts = Object.entries({ ...results.machine, ...results.versions }).map(([name, value]) => `${name} ${value}`)
  return [
    `# ${titles[store]}`,
    `Measured by \`${results.command}\` on ${results.date}, in ${Math.round(results.minutes)} minutes. ${
      facts.join("; ")
    }.`,
    explanation,
    results.subjects.filter((subject) => subject.store === store)
      .map(({ id, options }) => `- **${id}**: ${options}`).join("\n"),
    table(head, rows.flatMap(linesOf))
  ].join("\n\n") + "\n"
}
