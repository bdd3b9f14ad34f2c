/** One server per store for the whole run. Tests get its URL by `inject`. */
import type { TestProject } from "vitest/node"
import { findShared } from "./find.ts"
import { stores } from "./stores.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly redisUrl: string
    readonly postgresUrl: string
    readonly etcdUrl: string
  }
}

export default async function(project: TestProject): Promise<() => Promise<void>> {
  // One after the other: the first may install programs for all.
  const redis = await findShared(stores.redis)
  const postgres = await findShared(stores.postgres)
  const etcd = await findShared(stores.etcd)
  project.provide("redisUrl", redis.url)
  project.provide("postgresUrl", postgres.url)
  project.provide("etcdUrl", etcd.url)
  return async () => {
    await Promise.all([redis, postgres, etcd].map((server) => server.stop()))
  }
}
