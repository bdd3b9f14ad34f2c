import { Effect } from "effect"
import { describe, it } from "vitest"
import { casesFor } from "./cases.ts"
import type { BackingSuiteOptions } from "./Options.ts"

/** Milliseconds, for one case: most take less than a second, and properties as long as their leases. */
const timeout = 30 * 60_000

/**
 * Describes the suite for a backing to vitest: one test for each case that its capabilities allow.
 *
 * @category testing
 * @since 0.1.0
 */
export const backingSuite = (name: string, options: BackingSuiteOptions): void => {
  describe(name, () => {
    const cases = casesFor(options)
    // Those that wait for leases together are adjacent: so vitest runs them at once.
    for (
      const { name, rule, run, sideBySide } of cases.toSorted((a, b) => Number(b.sideBySide) - Number(a.sideBySide))
    ) {
      const concurrent = sideBySide && !options.virtualTime
      it(`${rule}: ${name}`, { timeout, concurrent }, ({ signal }) => Effect.runPromise(run(options), { signal }))
    }
  })
}
