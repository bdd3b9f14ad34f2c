/**
 * Semaphores in Redis, through an ioredis client.
 *
 * @since 0.1.0
 */
export * as RedisBacking from "./RedisBacking.ts"
