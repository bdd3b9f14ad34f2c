/** Compares ours with the others, within one run. */
import type { Measures, Outcome, Row, RowResults } from "./results.ts"

export interface Ratio {
  /** How many times better ours is: above 1, ours is faster, or costs less. */
  readonly median: number
  readonly low: number
  readonly high: number
  readonly rounds: number
  /** The standard error of the median, as a share of it, estimated from the quartiles. */
  readonly error: number
}

export type Measure = Row["compared"][number]

const quantile = (sorted: ReadonlyArray<number>, share: number): number => {
  const position = share * (sorted.length - 1)
  const [below, above] = [sorted[Math.floor(position)]!, sorted[Math.ceil(position)]!]
  return below === above ? below : below + (above - below) * (position - Math.floor(position))
}

export const median = (values: ReadonlyArray<number>): number => quantile(values.toSorted((a, b) => a - b), 0.5)

const advantage = (ours: number, theirs: number, measure: Measure): number | undefined => {
  const [better, worse] = measure === "rate" ? [ours, theirs] : [theirs, ours]
  return better === 0 && worse === 0 ? undefined : better / worse
}

const valueOf = (outcome: Outcome | undefined, measure: keyof Measures): number | undefined => {
  const value = outcome?.type === "measured" ? outcome.measures[measure] : undefined
  return typeof value === "number" ? value : undefined
}

/** Each round has a ratio of its own, of two runs that were close in time. */
export const ratioTo = ({ subjects }: RowResults, id: string, measure: Measure): Ratio | undefined => {
  const ours = subjects.find(({ id }) => id === "ours")?.rounds ?? []
  const theirs = subjects.find((subject) => subject.id === id)?.rounds ?? []
  const ratios = ours.flatMap((outcome, round) => {
    const [mine, other] = [valueOf(outcome, measure), valueOf(theirs[round], measure)]
    return mine === undefined || other === undefined ? [] : advantage(mine, other, measure) ?? []
  }).toSorted((a, b) => a - b)
  if (ratios.length === 0) return undefined
  const middle = quantile(ratios, 0.5)
  const range = quantile(ratios, 0.75) - quantile(ratios, 0.25)
  return {
    median: middle,
    low: ratios[0]!,
    high: ratios.at(-1)!,
    rounds: ratios.length,
    // In a normal distribution the quartiles are 1.349 deviations apart, and the median's error is 1.25 times the mean's.
    error: ratios.length < 3 ? Infinity : middle === 0 || middle === Infinity ? 0 : (1.25 * range) / 1.349 /
      Math.sqrt(ratios.length) / middle
  }
}

/** Two runs differ by more than 2.8 errors in one of twenty cases. With this error, the other nineteen agree within 20 %. */
const steadyError = 0.2 / 2.8

export const isSteady = ({ error }: Ratio): boolean => error <= steadyError

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
export const remarks = ({ notOffered, rounds }: SubjectResults): ReadonlyArray<string> => {
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

export const wasCutOff = (rounds: ReadonlyArray<Outcome>): boolean =>
  rounds.some((outcome) => outcome.type === "measured" && outcome.cutOff !== undefined)

/** Returns whether most callers were left out while some were served again and again. */
export const isUnfair = (rounds: ReadonlyArray<Outcome>): boolean => (typical(rounds, "fairness") ?? 1) < 0.5
