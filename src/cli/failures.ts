/** Errors in the words of the command line. */
import * as Cause from "effect/Cause"
import { LockLostError, SemaphoreBackingError } from "../core/Errors.ts"
import { Exit, exit } from "./exits.ts"

/** Returns the innermost message: clients wrap errors in others, and some of those have no message. */
export const reason = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return String(error)
  // A host name with several addresses fails with the errors of all of them.
  const inner = error instanceof AggregateError ? error.errors[0] : "cause" in error ? error.cause : undefined
  const innerReason = inner === undefined || inner === null ? "" : reason(inner)
  return innerReason !== "" ? innerReason : error instanceof Error ? error.message : String(error)
}

/** Returns how the program ends if the store failed, or can't be reached. */
export const failed = (error: unknown): Exit =>
  error instanceof Exit
    ? error
    : exit(
      "store",
      `The store failed${error instanceof SemaphoreBackingError ? ` (${error.operation})` : ""}: ${reason(error)}`
    )

/** Returns how the program ends for any failure. */
export const exitOf = (cause: Cause.Cause<unknown>): Exit => {
  const error = Cause.squash(cause)
  if (error instanceof Exit) return error
  if (error instanceof SemaphoreBackingError) return failed(error)
  // The reason was logged when it happened.
  if (error instanceof LockLostError) {
    return exit("lost", `The command was stopped, because it lost its permits of "${error.key}"`)
  }
  // For example, more permits than the limit.
  if (Cause.isIllegalArgumentError(error)) return exit("misuse", error.message)
  return exit("defect", Cause.pretty(cause))
}
