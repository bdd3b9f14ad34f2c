/** Measures the rows of a plan. */
import * as Children from "./measure/children.ts"
import type { Effort } from "./plan.ts"
import { isRowSteady } from "./report/ratios.ts"
import type { Outcome, Row, RowResults } from "./report/results.ts"
import type { StoreServer } from "./servers.ts"
import { subjects } from "./subjects/index.ts"
import type { Subject } from "./subjects/subject.ts"

interface Measured {
  readonly subject: Subject
  readonly notOffered?: string
  readonly sittings: Array<Array<Outcome>>
}

interface Running {
  readonly row: Row
  readonly subjects: ReadonlyArray<Measured>
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
  subjects: subjects
    .filter(({ only, store }) => store === row.store && (only === undefined || only.includes(row.scenario)))
    .map((subject) => {
      const notOffered = missing(subject, row)
      return { subject, sittings: [], ...notOffered !== undefined && { notOffered } }
    })
})

export const resultsOf = ({ row, subjects }: Running): RowResults => ({
  row,
  subjects: subjects.map(({ notOffered, sittings, subject }) => ({
    id: subject.id,
    sittings,
    ...notOffered !== undefined && { notOffered }
  }))
})

export const serverKey = ({ medium, store }: Row) => `${store} ${medium}`

type Servers = ReadonlyMap<string, StoreServer>

const offered = ({ subjects }: Running) => subjects.filter(({ notOffered }) => notOffered === undefined)

/** Returns whether the machine has little to do while a row is measured. */
const idles = ({ row: { scenario } }: Running) =>
  scenario === "idleHolds" || scenario === "idleWaiters" || scenario === "crash"

const hasFailed = (rounds: ReadonlyArray<Outcome>) => rounds.at(-1)?.type === "failed"

/** Returns the subjects that a sitting measures. One that failed is not tried again: it would take the time of all the others. */
const sittersOf = (running: Running, sitting: number) => {
  const sitters = offered(running).filter(({ sittings }) => !hasFailed(sittings.at(-1) ?? []))
  return sitting % 2 === 0 ? sitters : sitters.toReversed()
}

/**
 * Measures the subjects of a row one after another, each in a process that ends with it: what holds or waits sends requests, which
 * must not count for others.
 */
const measureApart = async (running: Running, servers: Servers, limitSeconds: number, sitting: number) => {
  const { row } = running
  const server = servers.get(serverKey(row))!
  for (const { sittings, subject } of sittersOf(running, sitting)) {
    await server.tidy()
    const child = Children.spawn()
    const job = { row, subject: subject.id, url: server.url }
    sittings.push([await Children.prepare(child, job, limitSeconds) ?? await Children.measure(child, limitSeconds)])
    await Children.end(child)
  }
}

/** How many rounds a sitting has. Processes differ more than the turns of one, so more sittings are better than more rounds. */
const roundsOfSitting = 3

/**
 * Measures a row, with a process for each subject, all of which are warmed up before. In each round the subjects take turns, in
 * reversed order: so what else the machine does meets all of them.
 */
const measureInTurns = async (
  running: Running,
  servers: Servers,
  limitSeconds: number,
  sitting: number
) => {
  const { row } = running
  const server = servers.get(serverKey(row))!
  await server.tidy()
  const sitters = sittersOf(running, sitting).map(({ sittings, subject }) => {
    const mine: Array<Outcome> = []
    sittings.push(mine)
    return { subject, rounds: mine, child: Children.spawn() }
  })
  try {
    for (const { child, rounds, subject } of sitters) {
      const failure = await Children.prepare(child, { row, subject: subject.id, url: server.url }, limitSeconds)
      if (failure !== undefined) rounds.push(failure)
    }
    for (let round = 0; round < roundsOfSitting; round++) {
      for (const { child, rounds } of round % 2 === 0 ? sitters : sitters.toReversed()) {
        if (!hasFailed(rounds)) rounds.push(await Children.measure(child, limitSeconds))
        if (hasFailed(rounds)) await Children.end(child)
      }
    }
  } finally {
    await Promise.all(sitters.map(({ child }) => Children.end(child)))
  }
}

/** Two sittings are the least from which one can tell how much they differ. */
const fewestSittings = 2

/**
 * Measures all rows, those that the README shows first, and again in new processes, until all ratios are steady or the time is over.
 * So the sittings of a row are far apart. A row whose turn never came is in the results, without sittings. Rows that idle are measured
 * on all stores at the same time.
 */
export const measure = async (
  rows: ReadonlyArray<Row>,
  servers: Servers,
  { limitSeconds, minutes }: Effort
): Promise<ReadonlyArray<RowResults>> => {
  const deadline = performance.now() + minutes * 60_000
  const all = rows.map(prepare)
  const important = all.toSorted((a, b) => Number(b.row.shown) - Number(a.row.shown))
  let left: ReadonlyArray<Running> = important
  for (let sitting = 0; left.length > 0; sitting++) {
    const sit = async (name: string, work: () => Promise<unknown>) => {
      if (performance.now() > deadline) return
      const began = performance.now()
      await work()
      console.log(`Sitting ${sitting + 1}, ${name}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
    }
    for (const label of new Set(left.filter(idles).map(({ row }) => row.label))) {
      const together = left.filter(({ row }) => row.label === label)
      await sit(
        label,
        () => Promise.all(together.map((running) => measureApart(running, servers, limitSeconds, sitting)))
      )
    }
    for (const running of left) {
      const { label, medium, store } = running.row
      if (!idles(running)) {
        await sit(`${store}, ${medium}, ${label}`, () => measureInTurns(running, servers, limitSeconds, sitting))
      }
    }
    if (performance.now() > deadline) break
    left = important.filter((running) => sitting + 1 < fewestSittings || !isRowSteady(resultsOf(running)))
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
        const outcome = await Children.prepare(child, { row, subject: subject.id, url }, limitSeconds) ??
          await Children.measure(child, limitSeconds)
        mine.sittings.push([outcome])
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
