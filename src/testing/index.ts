/**
 * The suite that every backing must pass, bound to vitest. Without vitest, see `effect-distributed-lock/testing/cases`.
 *
 * @since 0.1.0
 */
export { backingSuite } from "./backingSuite.ts"
export {
  type BackingCase,
  backingCases,
  type BackingSuiteOptions,
  type Capability,
  casesFor,
  type Requirement
} from "./cases.ts"
