/**
 * The suite for backings that still tell their waiters to ask again, instead of granting. It is the one that came before
 * src/testing, kept as it was, so that these backings lose not a single check meanwhile. It is not shipped, and it goes when
 * the last of them grants.
 */
export { backingSuite } from "./backingSuite.ts"
export { casesFor } from "./cases.ts"
