/** A Redis server and its replica. */
import { Redis } from "ioredis"
import * as Docker from "./docker.ts"
import { startBinary } from "./find.ts"
import type { Server } from "./server.ts"
import { stores } from "./stores.ts"

export interface RedisPair {
  readonly first: Server
  readonly second: Server
  /** Makes the second server the primary, with all that the first one has stored, and the first one its replica. */
  readonly failover: () => Promise<void>
  readonly stop: () => Promise<void>
}

const within = 10_000

export const start = async (): Promise<RedisPair> => {
  const inDocker = await Docker.isAvailable()
  /** Where a server finds the other one. */
  const host = inDocker ? "host.docker.internal" : "127.0.0.1"
  const startOne = () =>
    inDocker
      ? Docker.start(stores.redis, (server) => server.withExtraHosts([{ host, ipAddress: "host-gateway" }]))
      : startBinary(stores.redis)
  const [first, second] = await Promise.all([startOne(), startOne()])
  const [a, b] = [new Redis(first.url), new Redis(second.url)]
  await b.replicaof(host, first.port)
  const deadline = Date.now() + within
  while (!(await b.info("replication")).includes("master_link_status:up")) {
    if (Date.now() > deadline) throw new Error(`The replica was not in step after ${within} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return {
    first,
    second,
    failover: async () => {
      // `wait` waits for what its own connection has written, and for all before that.
      await a.set("the last before the failover", "")
      if (await a.wait(1, within) !== 1) throw new Error(`The replica did not catch up within ${within} ms`)
      await b.replicaof("NO", "ONE")
      await a.replicaof(host, second.port)
    },
    stop: async () => {
      a.disconnect()
      b.disconnect()
      await Promise.all([first.stop(), second.stop()])
    }
  }
}
