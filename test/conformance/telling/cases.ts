/** The cases of the suite, and which of them a backing is to pass. */
import type { BackingCase } from "./BackingCase.ts"
import * as Histories from "./internal/model/histories.ts"
import * as Sequences from "./internal/model/sequences.ts"
import * as WholeSemaphore from "./internal/model/wholeSemaphore.ts"
import * as Acquire from "./internal/rules/acquire.ts"
import * as Concurrency from "./internal/rules/concurrency.ts"
import * as Expiry from "./internal/rules/expiry.ts"
import * as Line from "./internal/rules/line.ts"
import * as Names from "./internal/rules/names.ts"
import * as Notifications from "./internal/rules/notifications.ts"
import * as Refresh from "./internal/rules/refresh.ts"
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
  ...Line.cases,
  ...Release.cases,
  ...Refresh.cases,
  ...Expiry.cases,
  ...Notifications.cases,
  ...Names.cases,
  ...Concurrency.cases,
  ...Tokens.cases,
  ...Repetition.cases,
  ...Sequences.cases,
  ...Histories.cases,
  ...WholeSemaphore.cases
]

/**
 * The cases for a backing with these capabilities.
 *
 * @category cases
 * @since 0.1.0
 */
export const casesFor = (options: BackingSuiteOptions): ReadonlyArray<BackingCase> => {
  const { has } = resolve(options)
  return backingCases.filter(({ requires }) => requires.every(has))
}
