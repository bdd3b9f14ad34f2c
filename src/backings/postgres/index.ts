/**
 * Semaphores in PostgreSQL.
 *
 * @since 0.1.0
 */
export * as PostgresBacking from "./PostgresBacking.ts"
