/** Assertions: with `actual` and `expected`, test runners show the difference. */
import { AssertionError } from "node:assert"
import { isDeepStrictEqual } from "node:util"

export const fail = (message: string, actual?: unknown, expected?: unknown): never => {
  const error = new AssertionError({ message, actual, expected })
  // Newer versions of Node set it to "simple", which vitest would print as if it were the difference.
  Reflect.deleteProperty(error, "diff")
  throw error
}

export const equal = (actual: unknown, expected: unknown, what: string): void => {
  if (!isDeepStrictEqual(actual, expected)) {
    fail(`${what}: expected ${show(expected)}, got ${show(actual)}`, actual, expected)
  }
}

export const isTrue = (condition: boolean, what: string): void => {
  if (!condition) fail(what)
}

/** Shows a value on one line. */
export const show = (value: unknown): string =>
  JSON.stringify(value, (_, part) => typeof part === "bigint" ? `${part}` : part) ?? "nothing"
