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
  readonly rounds: Array<Outcome>
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

const offered = ({ subjects }: Running) => subjects.filter(({ notOffered }) => notOffered === undefined)

/** Returns whether the machine has little to do while a row is measured. */
const idles = ({ row: { scenario } }: Running) =>
  scenario === "idleHolds" || scenario === "idleWaiters" || scenario === "crash"

/** Returns whether a subject is not tried again: it would take the time of all the others. */
const isOut = (rounds: ReadonlyArray<Outcome>) => rounds.at(-1)?.type === "failed"

/**
 * Measures the subjects of a row one after another, each in a new process that ends with it: what holds or waits sends requests, which
 * must not count for others.
 */
const measureApart = async (running: Running, servers: Servers, limitSeconds: number, round: number) => {
  const { row } = running
  const server = servers.get(serverKey(row))!
  const turns = offered(running).filter(({ rounds }) => !isOut(rounds))
  for (const { rounds, subject } of round % 2 === 0 ? turns : turns.toReversed()) {
    await server.tidy()
    const child = Children.spawn()
    const job = { row, subject: subject.id, url: server.url }
    rounds.push(await Children.prepare(child, job, limitSeconds) ?? await Children.measure(child, limitSeconds))
    await Children.end(child)
  }
  console.log(`${row.store}, ${row.medium}: ${row.label}: round ${round + 1}`)
}

/**
 * Measures a row, with a process for each subject, all of which are warmed up before. In each round the subjects take turns, in
 * reversed order: so what else the machine does meets all of them. A subject that failed or never ended is not tried again.
 */
const measureInTurns = async (
  running: Running,
  servers: Servers,
  limitSeconds: number,
  goesOn: (rounds: number) => boolean
) => {
  const { row } = running
  const server = servers.get(serverKey(row))!
  await server.tidy()
  const began = performance.now()
  const turns = offered(running).map((measured) => ({ ...measured, child: Children.spawn() }))
  const note = async ({ child, rounds }: typeof turns[number], outcome: Outcome | undefined) => {
    if (outcome !== undefined) rounds.push(outcome)
    if (outcome?.type === "failed") await Children.end(child)
  }
  try {
    for (const turn of turns) {
      const job = { row, subject: turn.subject.id, url: server.url }
      await note(turn, await Children.prepare(turn.child, job, limitSeconds))
    }
    let count = 0
    do {
      for (const turn of count % 2 === 0 ? turns : turns.toReversed()) {
        if (!isOut(turn.rounds)) await note(turn, await Children.measure(turn.child, limitSeconds))
      }
    } while (goesOn(++count))
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    console.log(`${row.store}, ${row.medium}: ${row.label}: ${count} rounds in ${seconds} s`)
  } finally {
    await Promise.all(turns.map(({ child }) => Children.end(child)))
  }
}

/** With so few rounds, ratios may look steady by chance. */
const fewRounds = 7

const turnsOf = (rows: ReadonlyArray<Running>) => rows.reduce((sum, row) => sum + offered(row).length, 0)

/**
 * Measures the rows, those that the README shows first, each often enough, and again until its ratios are steady or its share of the
 * time is used up. What a row leaves over is for those after it. Rows that were not measured when the time is over are in the
 * results, without rounds. Rows that idle come first, on all stores at the same time.
 */
export const measure = async (
  rows: ReadonlyArray<Row>,
  servers: Servers,
  { limitSeconds, minutes, mostRounds, rounds }: Effort
): Promise<ReadonlyArray<RowResults>> => {
  const deadline = performance.now() + minutes * 60_000
  const idleRounds = Math.min(3, Math.max(1, Math.round(minutes / 8)))
  const all = rows.map(prepare)
  for (const label of new Set(all.filter(idles).map(({ row }) => row.label))) {
    for (let round = 0; round < idleRounds; round++) {
      const together = all.filter(({ row }) => row.label === label)
      await Promise.all(together.map((row) => measureApart(row, servers, limitSeconds, round)))
    }
  }
  const left = all.filter((row) => !idles(row)).toSorted((a, b) => Number(b.row.shown) - Number(a.row.shown))
  for (let [next, ...others] = left; next !== undefined; [next, ...others] = others) {
    const now = performance.now()
    if (now > deadline) break
    const until = now + (deadline - now) * turnsOf([next]) / turnsOf([next, ...others])
    const goesOn = (count: number) =>
      count < mostRounds && performance.now() < until && (count < fewRounds || !isRowSteady(resultsOf(next)))
    await measureInTurns(next, servers, limitSeconds, (count) => count < rounds || goesOn(count))
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
