/**
 * A case of the suite: a value that any test runner can run.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type { Subject } from "./internal/subject.ts"
import * as TheSubject from "./internal/subject.ts"
import type { BackingSuiteOptions, Requirement } from "./Options.ts"
import { resolve } from "./Options.ts"

/**
 * One test of one rule.
 *
 * @category models
 * @since 0.1.0
 */
export interface BackingCase {
  /** What it tests: a rule of the contract, `"B1"` to `"B13"`, a range of them, or a promise that the contract helps to keep. */
  readonly rule: string
  /** The rule in one sentence, as far as this case tests it. */
  readonly name: string
  /** What the backing must support for this case. */
  readonly requires: ReadonlyArray<Requirement>
  /** Whether it mostly waits for leases to end, and so may run at the same time as others like it. */
  readonly sideBySide: boolean
  /**
   * Runs the case. It fails or dies with what is wrong, usually an `AssertionError`. It may wait for several of the backing's
   * leases, and it may hang on a store that does not answer: give it a time limit.
   */
  readonly run: (options: BackingSuiteOptions) => Effect.Effect<void, unknown>
}

/** Makes a case that has a subject of its own. */
export const backingCase = (
  rule: string,
  name: string,
  requires: ReadonlyArray<Requirement>,
  body: (subject: Subject) => Effect.Effect<void, unknown, Scope.Scope>
): BackingCase => ({
  rule,
  name,
  requires,
  sideBySide: false,
  run: (options) => {
    const run = Effect.scoped(Effect.flatMap(TheSubject.make(resolve(options)), body))
    return options.virtualTime ? Effect.provide(run, TestClock.layer()) : run
  }
})

/** Makes a case that mostly waits for leases to end. */
export const leaseCase = (...args: Parameters<typeof backingCase>): BackingCase => ({
  ...backingCase(...args),
  sideBySide: true
})
