/** Compares ours with the others, within one run. */
import type { Measures, Outcome, Row, RowResults } from "./results.ts"

/** How many times better ours is: above 1, ours is faster, or costs less. */
export interface Ratio {
  /** The median of the sittings, each of which is the median of its rounds. */
  readonly median: number
  /** The lowest and the highest sitting. */
  readonly low: number
  readonly high: number
  /** Of twenty other runs, nineteen have a median that differs by no more than this factor. */
  readonly uncertainty: number
}

export type Measure = Row["compared"][number]

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const [below, above] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!]
  return below === above ? below : (below + above) / 2
}

const advantage = (ours: number, theirs: number, measure: Measure): number | undefined => {
  const [better, worse] = measure === "rate" ? [ours, theirs] : [theirs, ours]
  return better === 0 && worse === 0 ? undefined : better / worse
}

const valueOf = (outcome: Outcome | undefined, measure: keyof Measures): number | undefined => {
  const value = outcome?.type === "measured" ? outcome.measures[measure] : undefined
  return typeof value === "number" ? value : undefined
}

/** The 97.5 % quantiles of Student's distribution, by degrees of freedom. */
const students = [Infinity, 12.7, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26]

/** The sittings differ more than the rounds of one, which share their processes. So these alone say how certain a ratio is. */
const uncertaintyOf = (sittings: ReadonlyArray<number>): number => {
  const freedom = sittings.length - 1
  if (freedom > 0 && new Set(sittings).size === 1) return 1
  const logs = sittings.map(Math.log)
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / freedom
  // The median's error is 1.25 times the mean's, and two runs differ by the errors of both.
  const error = 1.25 * Math.sqrt(2 * variance / logs.length)
  return Math.exp((students[freedom] ?? students.at(-1)!) * error)
}

/** Each round has a ratio of its own, of two turns that were close in time. */
export const ratioTo = ({ subjects }: RowResults, id: string, measure: Measure): Ratio | undefined => {
  const sittingsOf = (id: string) => subjects.find((subject) => subject.id === id)?.sittings ?? []
  const theirs = sittingsOf(id)
  const sittings = sittingsOf("ours").flatMap((rounds, sitting) => {
    const ratios = rounds.flatMap((outcome, round) => {
      const [mine, other] = [valueOf(outcome, measure), valueOf(theirs[sitting]?.[round], measure)]
      return mine === undefined || other === undefined ? [] : advantage(mine, other, measure) ?? []
    })
    return ratios.length === 0 ? [] : median(ratios)
  })
  if (sittings.length === 0) return undefined
  return {
    median: median(sittings),
    low: Math.min(...sittings),
    high: Math.max(...sittings),
    uncertainty: uncertaintyOf(sittings)
  }
}

/** By how much two runs may differ, and still agree. */
export const tolerance = 0.2

/** Returns whether another run would most likely agree. */
export const isSteady = ({ uncertainty }: Ratio): boolean => uncertainty <= 1 + tolerance

/** Returns whether all ratios of a row are steady. */
export const isRowSteady = (results: RowResults): boolean =>
  results.subjects.every(({ id }) =>
    id === "ours" || results.row.compared.every((measure) => {
      const ratio = ratioTo(results, id, measure)
      return ratio === undefined || isSteady(ratio)
    })
  )

/** Returns the median over the rounds. */
export const typical = (rounds: ReadonlyArray<Outcome>, measure: keyof Measures): number | undefined => {
  const values = rounds.flatMap((outcome) => valueOf(outcome, measure) ?? [])
  return values.length === 0 ? undefined : median(values)
}

type SubjectResults = RowResults["subjects"][number]

/** Returns what a reader must know about a subject in a row: what is missing comes first. */
export const remarks = ({ notOffered, sittings }: SubjectResults): ReadonlyArray<string> => {
  const rounds = sittings.flat()
  if (notOffered !== undefined) return [`not offered: ${notOffered}`]
  if (rounds.length === 0) return ["not measured: the time was over"]
  const found = (pick: (outcome: Outcome) => string | undefined) => {
    const all = rounds.flatMap((outcome) => pick(outcome) ?? [])
    if (all.length === 0) return []
    return [all.length < rounds.length ? `${all.at(-1)} (${all.length} of ${rounds.length} rounds)` : all.at(-1)!]
  }
  return [
    ...found((outcome) => outcome.type === "failed" ? `failed: ${outcome.reason}` : undefined),
    ...found((outcome) => outcome.type === "measured" ? outcome.cutOff : undefined),
    ...found((outcome) => outcome.type === "measured" ? outcome.note : undefined)
  ]
}

export const hasFailed = (rounds: ReadonlyArray<Outcome>): boolean =>
  rounds.length > 0 && rounds.every(({ type }) => type === "failed")

/** Returns whether a round was cut off, or failed. */
export const wasCutOff = (rounds: ReadonlyArray<Outcome>): boolean =>
  rounds.some((outcome) => outcome.type === "failed" || outcome.cutOff !== undefined)

/** Returns whether most callers were left out while some were served again and again. */
export const isUnfair = (rounds: ReadonlyArray<Outcome>): boolean => (typical(rounds, "fairness") ?? 1) < 0.5
