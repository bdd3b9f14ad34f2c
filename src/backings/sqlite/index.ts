/**
 * Semaphores in a SQLite file, for the processes of one machine, without any server.
 *
 * @since 0.1.0
 */
export * as SqliteBacking from "./SqliteBacking.ts"
