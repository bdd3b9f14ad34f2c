/** Measures the rows of a plan: subjects take turns, in several rounds. */
import * as Children from "./measure/children.ts"
import type { Effort } from "./plan.ts"
import { isRowSteady } from "./report/ratios.ts"
import type { Outcome, Row, RowResults } from "./report/results.ts"
import type { StoreServer } from "./servers.ts"
import { subjects } from "./subjects/index.ts"
import type { Subject } from "./subjects/subject.ts"

interface Running {
  readonly row: Row
  readonly subjects: ReadonlyArray<
    { readonly subject: Subject; readonly notOffered?: string; readonly rounds: Array<Outcome> }
  >
  rounds: number
  /** How long a round of this row took. */
  seconds: number
}

const why: Readonly<Record<Subject["lacks"][number], string>> = {
  limit: "its limit is 1",
  permits: "a hold is one permit",
  extension: "a hold is not extended by itself"
}

const missing = ({ lacks }: Subject, { parameters, scenario }: Row): string | undefined => {
  const needed = scenario === "mixed" || scenario === "permits"
    ? ["limit", "permits"]
    : scenario === "holders" || parameters["of"] === "one key"
    ? ["limit"]
    : scenario === "idleHolds"
    ? ["extension"]
    : []
  const lacking = lacks.find((lack) => needed.includes(lack))
  return lacking && why[lacking]
}

export const prepare = (row: Row): Running => ({
  row,
  rounds: 0,
  seconds: 0,
  subjects: subjects
    .filter(({ only, store }) => store === row.store && (only === undefined || only.includes(row.scenario)))
    .map((subject) => {
      const notOffered = missing(subject, row)
      return { subject, rounds: [], ...notOffered !== undefined && { notOffered } }
    })
})

export const resultsOf = ({ row, subjects }: Running): RowResults => ({
  row,
  subjects: subjects.map(({ notOffered, rounds, subject }) => ({
    id: subject.id,
    rounds,
    ...notOffered !== undefined && { notOffered }
  }))
})

export const serverKey = ({ medium, store }: Row) => `${store} ${medium}`

type Servers = ReadonlyMap<string, StoreServer>

/** Measures each subject of a row once, in a process of its own. The order is reversed from round to round. */
const measureOnce = async (running: Running, servers: Servers, limitSeconds: number) => {
  const { row } = running
  const server = servers.get(serverKey(row))!
  const began = performance.now()
  const turns = running.subjects.filter(({ notOffered }) => notOffered === undefined)
  for (const { rounds, subject } of running.rounds % 2 === 0 ? turns : turns.toReversed()) {
    // A subject that failed or never ended is not tried again: it would take the time of all the others.
    if (rounds.at(-1)?.type === "failed") continue
    await server.tidy()
    const child = Children.spawn()
    rounds.push(await Children.run(child, { row, subject: subject.id, url: server.url }, limitSeconds))
    await Children.end(child)
  }
  running.rounds++
  running.seconds = (performance.now() - began) / 1000
}

/** Returns whether the machine has little to do while a row is measured. */
const idles = ({ scenario }: Row) => scenario === "idleHolds" || scenario === "idleWaiters" || scenario === "crash"

const report = ({ row, seconds, rounds }: Running) =>
  console.log(`${row.store}, ${row.medium}: ${row.label}: round ${rounds} in ${seconds.toFixed(1)} s`)

/**
 * Measures the rows in turn, those that the README shows first, until each was measured often enough and its ratios are steady, or the
 * time is over. Rows that were not measured by then are in the results, without rounds. Rows that idle are measured on all stores at
 * the same time.
 */
export const measure = async (
  rows: ReadonlyArray<Row>,
  servers: Servers,
  { limitSeconds, minutes, mostRounds, rounds }: Effort
): Promise<ReadonlyArray<RowResults>> => {
  const deadline = performance.now() + minutes * 60_000
  const all = rows.map(prepare)
  const due = () =>
    all.filter((running) =>
      (running.rounds < rounds || (running.rounds < mostRounds && !isRowSteady(resultsOf(running)))) &&
      performance.now() + running.seconds * 1000 < deadline
    ).toSorted((a, b) => a.rounds - b.rounds || Number(b.row.shown) - Number(a.row.shown))
  for (let [next, ...others] = due(); next !== undefined; [next, ...others] = due()) {
    const { row: { label }, rounds } = next
    const together = idles(next.row)
      ? others.filter((other) => other.row.label === label && other.rounds === rounds)
      : []
    await Promise.all([next, ...together].map((running) => measureOnce(running, servers, limitSeconds)))
    for (const running of [next, ...together]) report(running)
  }
  return all.map(resultsOf)
}

/** Runs every row once, with `atOnce` subjects at a time, each in one process. */
export const smoke = async (rows: ReadonlyArray<Row>, servers: Servers, { limitSeconds }: Effort, atOnce: number) => {
  const all = rows.map(prepare)
  const turns = subjects.filter((subject) => all.some(({ row }) => row.store === subject.store))
  const work = async () => {
    for (let subject = turns.shift(); subject !== undefined; subject = turns.shift()) {
      let child = Children.spawn()
      for (const { row, subjects } of all) {
        const mine = subjects.find((one) => one.subject === subject && one.notOffered === undefined)
        if (mine === undefined) continue
        const { url } = servers.get(serverKey(row))!
        const outcome = await Children.run(child, { row, subject: subject.id, url }, limitSeconds)
        mine.rounds.push(outcome)
        if (outcome.type === "failed") {
          await Children.end(child)
          child = Children.spawn()
        }
      }
      await Children.end(child)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  return all.map(resultsOf)
}
