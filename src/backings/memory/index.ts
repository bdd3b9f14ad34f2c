/**
 * Semaphores in the memory of one process: the contract in its plainest form, for tests and for development.
 *
 * @since 0.1.0
 */
export * as MemoryBacking from "./MemoryBacking.ts"
