/** The command line: see README.md. */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import type { Form } from "./plan.ts"
import { effortOf, plan } from "./plan.ts"
import { compare, describe } from "./report/compare.ts"
import { remarks } from "./report/ratios.ts"
import type { Results, Row, RowResults } from "./report/results.ts"
import { read, shown, write, writeReport } from "./report/write.ts"
import { measure, serverKey, smoke } from "./run.ts"
import type { StoreServer } from "./servers.ts"
import { serverVersions, start } from "./servers.ts"
import { subjects } from "./subjects/index.ts"

const root = Path.join(import.meta.dirname, "..")

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    smoke: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    only: { type: "string", multiple: true, default: [] },
    minutes: { type: "string" },
    out: { type: "string" },
    compare: { type: "boolean", default: false },
    report: { type: "boolean", default: false }
  }
})

const startServers = async (rows: ReadonlyArray<Row>): Promise<Map<string, StoreServer>> => {
  const servers = new Map<string, StoreServer>()
  for (const row of rows) {
    const key = serverKey(row)
    if (!servers.has(key)) servers.set(key, await start(row.store, row.medium))
  }
  return servers
}

const versionsOf = (folder: string, names: ReadonlyArray<string>) =>
  names.map((name) => {
    const file = Path.join(root, folder, "node_modules", name, "package.json")
    return [name, JSON.parse(Fs.readFileSync(file, "utf8")).version as string] as const
  })

const ofPeers = Object.keys(
  JSON.parse(Fs.readFileSync(Path.join(import.meta.dirname, "package.json"), "utf8")).dependencies
)
  .filter((name) => !name.startsWith("effect"))

const describeRun = (rows: ReadonlyArray<RowResults>, began: Date): Results => ({
  command: ["npm run bench", ...process.argv.length > 2 ? ["--", ...process.argv.slice(2)] : []].join(" "),
  date: began.toISOString().slice(0, 16).replace("T", " ") + " UTC",
  minutes: Math.round((Date.now() - began.getTime()) / 6000) / 10,
  machine: {
    "CPU:": `${Os.cpus().length} cores of ${Os.cpus()[0]?.model.trim() ?? "an unknown kind"}`,
    "memory:": `${Math.round(Os.totalmem() / 2 ** 30)} GiB`,
    "system:": `${Os.type()} ${Os.release()}`,
    "load when it ended:": Os.loadavg().map((load) => load.toFixed(1)).join(", ")
  },
  versions: {
    node: process.version,
    effect: versionsOf("", ["effect"])[0]![1],
    ...Object.fromEntries(versionsOf("", ["@effect/sql-pg"])),
    "effect of 0.0.11": versionsOf("bench", ["effect"])[0]![1],
    ...Object.fromEntries(versionsOf("bench", ofPeers)),
    ...serverVersions()
  },
  subjects: subjects.map(({ id, kind, options, store }) => ({ id, kind, options, store })),
  rows
})

const withServers = async <A>(rows: ReadonlyArray<Row>, use: (servers: Map<string, StoreServer>) => Promise<A>) => {
  const servers = await startServers(rows)
  const stop = async () => {
    for (const server of servers.values()) await server.stop()
  }
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop().finally(() => process.exit(1)))
  try {
    return await use(servers)
  } finally {
    await stop()
  }
}

const run = async (form: Form) => {
  const began = new Date()
  const effort = effortOf(form, options.minutes === undefined ? undefined : Number(options.minutes))
  if (!(effort.minutes >= 0)) throw new Error(`--minutes is a number, not ${options.minutes}`)
  const rows = plan(form, effort.minutes, options.only)
  if (rows.length === 0) throw new Error("Nothing in the plan has all the parts that --only names")
  if (form === "smoke") {
    const results = await withServers(rows, (servers) => smoke(rows, servers, effort, 3 * Os.availableParallelism()))
    const bad = results.flatMap(({ row, subjects }) =>
      subjects.flatMap((subject) => {
        const { id, notOffered, sittings } = subject
        const rounds = sittings.flat()
        const whole = rounds.length > 0 && rounds.every((round) => round.type === "measured" && !round.cutOff)
        if (whole || notOffered !== undefined) return []
        return [`${row.store}: ${row.label}: ${id}: ${remarks(subject).join("; ")}`]
      })
    )
    const all = results.flatMap(({ subjects }) => subjects.flatMap(({ sittings }) => sittings.flat()))
    console.log(
      `${all.length} scenarios ran in ${Math.round((Date.now() - began.getTime()) / 1000)} s, ${bad.length} failed`
    )
    for (const line of bad) console.log(line)
    process.exitCode = bad.length === 0 ? 0 : 1
    return
  }
  const measured = await withServers(rows, (servers) => measure(rows, servers, effort))
  const whole = options.only.length === 0
  const folder = Path.resolve(options.out ?? (whole ? shown : Path.join(root, ".tmp", "bench")))
  await write(describeRun(measured, began), folder)
  console.log(`Written to ${folder}`)
}

if (options.compare) {
  const [first, second] = positionals
  if (first === undefined || second === undefined) throw new Error("--compare needs two files")
  const comparison = compare(read(first), read(second))
  console.log(describe(comparison))
  process.exitCode = comparison.disagreements.length === 0 ? 0 : 1
} else if (options.report) {
  const folder = Path.resolve(options.out ?? shown)
  await writeReport(read(Path.join(folder, "results.json")), folder)
} else {
  await run(options.smoke ? "smoke" : options.full ? "full" : "short")
}
// Clients of servers that are gone may still try to reconnect.
process.exit()
