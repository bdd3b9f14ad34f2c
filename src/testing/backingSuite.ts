import * as Effect from "effect/Effect"
import { describe, it } from "vitest"
import { casesFor } from "./cases.ts"
import type { BackingSuiteOptions } from "./Options.ts"

/** The time limit of a case, in milliseconds. Most take less than a second, but properties take as long as their leases. */
const timeout = 30 * 60_000

/**
 * Registers the suite for a backing with vitest: one test for each case that its capabilities allow.
 *
 * @category testing
 * @since 0.1.0
 */
export const backingSuite = (name: string, options: BackingSuiteOptions): void => {
  describe(name, () => {
    const cases = casesFor(options)
    // The cases that wait for leases come first: vitest runs adjacent concurrent tests at once.
    for (
      const { name, rule, run, sideBySide } of cases.toSorted((a, b) => Number(b.sideBySide) - Number(a.sideBySide))
    ) {
      const concurrent = sideBySide && !options.virtualTime
      it(`${rule}: ${name}`, { timeout, concurrent }, ({ signal }) => Effect.runPromise(run(options), { signal }))
    }
  })
}
