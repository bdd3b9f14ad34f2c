import { Effect } from "effect"
import { describe, it } from "vitest"
import { casesFor } from "./cases.ts"
import * as Histories from "./internal/model/histories.ts"
import * as Sequences from "./internal/model/sequences.ts"
import * as WholeSemaphore from "./internal/model/wholeSemaphore.ts"
import type { BackingSuiteOptions } from "./Options.ts"

/** Milliseconds, for one case: most take less than a second, and properties as long as their leases. */
const timeout = 30 * 60_000

/**
 * Describes one part of the suite for a backing to vitest: one test for each case that its capabilities allow. The properties take
 * as long as all the rules; so a backing with slow leases runs the two beside each other, in two files.
 */
export const backingSuite = (name: string, options: BackingSuiteOptions, part?: "rules" | "properties"): void => {
  describe(name, () => {
    for (const { name, rule, run } of casesFor(options)) {
      const isProperty = properties.has(name)
      if (part !== undefined && isProperty !== (part === "properties")) continue
      it(`${rule}: ${name}`, { timeout }, ({ signal }) => Effect.runPromise(run(options), { signal }))
    }
  })
}

const properties = new Set([...Sequences.cases, ...Histories.cases, ...WholeSemaphore.cases].map(({ name }) => name))
