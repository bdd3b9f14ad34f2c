/** Compares the ratios of two runs, except those that one of the runs marks as hard to reproduce. */
import { table, times } from "./markdown.ts"
import { labelOf, titles } from "./pages.ts"
import { isSteady, ratioTo, tolerance } from "./ratios.ts"
import type { Results } from "./results.ts"

export interface Comparison {
  readonly compared: number
  /** How many ratios one of the runs marks with ≈. */
  readonly unsteady: number
  readonly disagreements: ReadonlyArray<ReadonlyArray<string>>
}

export const compare = (first: Results, second: Results): Comparison => {
  let compared = 0
  let unsteady = 0
  const disagreements = first.rows.flatMap((results) => {
    const other = second.rows.find(({ row }) =>
      row.store === results.row.store && row.medium === results.row.medium && row.label === results.row.label
    )
    if (other === undefined) return []
    return results.subjects.flatMap(({ id }) =>
      id === "ours" ? [] : results.row.compared.flatMap((measure) => {
        const [before, after] = [ratioTo(results, id, measure), ratioTo(other, id, measure)]
        if (before === undefined || after === undefined) return []
        if (!isSteady(before) || !isSteady(after)) {
          unsteady++
          return []
        }
        compared++
        const apart = before.median === after.median
          ? 0
          : Math.max(before.median, after.median) / Math.min(before.median, after.median) - 1
        return apart <= tolerance ? [] : [[
          titles[results.row.store],
          labelOf(results),
          id,
          measure,
          times(before.median),
          times(after.median),
          `${Math.round(apart * 100)} %`
        ]]
      })
    )
  })
  return { compared, unsteady, disagreements }
}

export const describe = ({ compared, disagreements, unsteady }: Comparison): string =>
  [
    `${compared - disagreements.length} of ${compared} ratios agree within ${
      tolerance * 100
    } %; ${unsteady} others are marked ≈.`,
    ...disagreements.length === 0
      ? []
      : [table(["store", "scenario", "subject", "measure", "first", "second", "apart"], disagreements)]
  ].join("\n\n") + "\n"
