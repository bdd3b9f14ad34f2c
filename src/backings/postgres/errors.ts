/** Returns the error of PostgreSQL itself, without the client's wrapping. */
import type { SqlError } from "effect/sql/SqlError"

export const serverError = (error: SqlError): Error => error.reason.cause instanceof Error ? error.reason.cause : error
