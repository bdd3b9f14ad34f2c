/**
 * A case of the suite: a value that any test runner can run.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import type { Scope } from "effect"
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
  /** What the case asks for: `"B1"` to `"B12"` of the contract, or one of the promises that are kept by it. */
  readonly rule: string
  /** The rule in one sentence, as far as this case tests it. */
  readonly name: string
  /** What the backing must be able to do for it. */
  readonly requires: ReadonlyArray<Requirement>
  /** Whether it does little but wait for leases to end, and may do so beside others like it. */
  readonly sideBySide: boolean
  /**
   * Runs the case. It fails or dies with what is wrong, usually an `AssertionError`; it may take some of the backing's ttl,
   * and does not end in time on a store that does not answer: limit it.
   */
  readonly run: (options: BackingSuiteOptions) => Effect.Effect<void, unknown>
}

/** A case over a subject of its own. */
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

/** A case that waits for leases to end. */
export const leaseCase = (...args: Parameters<typeof backingCase>): BackingCase => ({
  ...backingCase(...args),
  sideBySide: true
})
