/**
 * A distributed semaphore for Effect, on the stores you already run.
 *
 * @since 0.1.0
 */
export * as MemoryBacking from "./backings/memory/MemoryBacking.ts"
export * as RedisBacking from "./backings/redis/RedisBacking.ts"
export * as Backing from "./core/Backing.ts"
export { DistributedSemaphoreBacking, FencingToken } from "./core/Backing.ts"
export * as DistributedSemaphore from "./core/DistributedSemaphore.ts"
export { LockLostError, LockNotAcquiredError, SemaphoreBackingError } from "./core/Errors.ts"
export { Lease } from "./core/Lease.ts"
