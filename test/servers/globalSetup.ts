/** One server per store for the whole run. Tests get its URL by `inject`. */
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"
import { findShared } from "./find.ts"
import type { Store } from "./stores.ts"
import { stores } from "./stores.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly redisUrl: string
    readonly postgresUrl: string
    readonly etcdUrl: string
  }
}

export default async function(project: TestProject): Promise<() => Promise<void>> {
  // Tests start many processes, which would spend half of their time on compiling the same code.
  process.env.NODE_COMPILE_CACHE ??= join(tmpdir(), "node-compile-cache")
  const servers: Array<{ readonly url: string; readonly stop: () => Promise<void> }> = []
  const stop = async () => void await Promise.all(servers.map((server) => server.stop()))
  const start = async (store: Store) => {
    const server = await findShared(store)
    servers.push(server)
    return server.url
  }
  try {
    // One after the other, because the first may install programs for all.
    project.provide("redisUrl", await start(stores.redis))
    project.provide("postgresUrl", await start(stores.postgres))
    project.provide("etcdUrl", await start(stores.etcd))
  } catch (error) {
    await stop()
    throw error
  }
  return stop
}
