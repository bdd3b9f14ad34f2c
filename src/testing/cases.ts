/**
 * The suite without a test runner: its cases are values, and any runner can run them.
 *
 * **Example** (With the test runner of Node)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { MemoryBacking } from "effect-distributed-lock"
 * import { casesFor } from "effect-distributed-lock/testing/cases"
 * import { describe, it } from "node:test"
 *
 * const options = { layer: MemoryBacking.layer, instances: 1, virtualTime: true }
 *
 * describe("MemoryBacking", () => {
 *   for (const { name, rule, run } of casesFor(options)) {
 *     it(`${rule}: ${name}`, () => Effect.runPromise(run(options)))
 *   }
 * })
 * ```
 *
 * @since 0.1.0
 */
import type { BackingCase } from "./BackingCase.ts"
import * as Histories from "./internal/model/histories.ts"
import * as Sequences from "./internal/model/sequences.ts"
import * as WholeSemaphore from "./internal/model/wholeSemaphore.ts"
import * as Acquire from "./internal/rules/acquire.ts"
import * as Border from "./internal/rules/border.ts"
import * as Clocks from "./internal/rules/clocks.ts"
import * as Concurrency from "./internal/rules/concurrency.ts"
import * as Crashes from "./internal/rules/crashes.ts"
import * as Expiry from "./internal/rules/expiry.ts"
import * as Grants from "./internal/rules/grants.ts"
import * as Late from "./internal/rules/late.ts"
import * as Line from "./internal/rules/line.ts"
import * as Looks from "./internal/rules/looks.ts"
import * as Names from "./internal/rules/names.ts"
import * as Notifications from "./internal/rules/notifications.ts"
import * as Operators from "./internal/rules/operators.ts"
import * as Refresh from "./internal/rules/refresh.ts"
import * as RefreshAll from "./internal/rules/refreshAll.ts"
import * as Release from "./internal/rules/release.ts"
import * as Repetition from "./internal/rules/repetition.ts"
import * as Tokens from "./internal/rules/tokens.ts"
import type { BackingSuiteOptions } from "./Options.ts"
import { resolve } from "./Options.ts"

export type { BackingCase } from "./BackingCase.ts"
export type { BackingSuiteOptions, Capability, Requirement } from "./Options.ts"

/**
 * All cases. The last three are properties, which take the longest.
 *
 * @category cases
 * @since 0.1.0
 */
export const backingCases: ReadonlyArray<BackingCase> = [
  ...Acquire.cases,
  ...Border.cases,
  ...Line.cases,
  ...Grants.cases,
  ...Release.cases,
  ...Refresh.cases,
  ...RefreshAll.cases,
  ...Expiry.cases,
  ...Clocks.cases,
  ...Crashes.cases,
  ...Looks.cases,
  ...Operators.cases,
  ...Notifications.cases,
  ...Names.cases,
  ...Concurrency.cases,
  ...Tokens.cases,
  ...Repetition.cases,
  ...Late.cases,
  ...Sequences.cases,
  ...Histories.cases,
  ...WholeSemaphore.cases
]

/**
 * Returns the cases for a backing with these capabilities.
 *
 * @category cases
 * @since 0.1.0
 */
export const casesFor = (options: BackingSuiteOptions): ReadonlyArray<BackingCase> => {
  const { has } = resolve(options)
  return backingCases.filter(({ requires }) => requires.every(has))
}
