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
    for (const { alone, name, rule, run } of casesFor(options)) {
      // Where time is real, most cases do nothing but wait for leases to end.
      const concurrent = !alone && !options.virtualTime
      it(`${rule}: ${name}`, { timeout, concurrent }, ({ signal }) => Effect.runPromise(run(options), { signal }))
    }
  })
}
