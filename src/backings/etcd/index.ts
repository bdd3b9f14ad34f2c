/**
 * Semaphores in etcd.
 *
 * @since 0.1.0
 */
export * as EtcdBacking from "./EtcdBacking.ts"
