/** A Redis Cluster of three masters, without replicas, on loopback. */
import { Redis } from "ioredis"
import * as Docker from "./docker.ts"
import { startBinary } from "./find.ts"
import type { Server } from "./server.ts"
import { freePort } from "./server.ts"
import { imageOf, stores } from "./stores.ts"

export interface RedisCluster {
  readonly ports: ReadonlyArray<number>
  readonly stop: () => Promise<void>
}

const slots = 16_384

/** Starts all nodes in one container, on the same ports inside and outside: all use the same addresses. */
const startNodesInDocker = async (): Promise<RedisCluster> => {
  const { GenericContainer } = await import("testcontainers")
  const ports = [await freePort(), await freePort(), await freePort()]
  const nodes = ports.map((port) =>
    `redis-server --port ${port} --cluster-enabled yes --cluster-config-file ${port}.conf --save '' --protected-mode no`
  )
  const container = await new GenericContainer(imageOf("redis"))
    .withExposedPorts(...ports.map((port) => ({ container: port, host: port })))
    .withCommand(["sh", "-c", `${nodes.join(" & ")} & wait`])
    .start()
  return { ports, stop: async () => void await container.stop() }
}

const startNodes = async (): Promise<RedisCluster> => {
  if (await Docker.isAvailable()) return startNodesInDocker()
  const nodes: Array<Server> = []
  for (let node = 0; node < 3; node++) nodes.push(await startBinary(stores.redis, ["--cluster-enabled", "yes"]))
  return {
    ports: nodes.map(({ port }) => port),
    stop: async () => void await Promise.all(nodes.map((node) => node.stop()))
  }
}

export const start = async (): Promise<RedisCluster> => {
  const cluster = await startNodes()
  const clients = cluster.ports.map((port) => new Redis(port))
  const share = Math.ceil(slots / clients.length)
  for (const [index, client] of clients.entries()) {
    await client.cluster("ADDSLOTSRANGE", index * share, Math.min(slots, (index + 1) * share) - 1)
    await client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
    await client.cluster("MEET", "127.0.0.1", cluster.ports[0]!)
  }
  const deadline = Date.now() + 30_000
  const isReady = async (client: Redis) => {
    const info = await client.cluster("INFO")
    return info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3")
  }
  while (!(await Promise.all(clients.map(isReady))).every((ready) => ready)) {
    if (Date.now() > deadline) throw new Error("The cluster did not form within 30 s")
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  clients.forEach((client) => client.disconnect())
  return cluster
}
