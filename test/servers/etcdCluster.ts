/** An etcd cluster of three members on loopback. They reach each other through proxies, so that one can be cut off. */
import { Etcd3 } from "etcd3"
import * as Proxy from "../utils/proxy.ts"
import * as Docker from "./docker.ts"
import { startBinary } from "./find.ts"
import type { Server } from "./server.ts"
import { freePort, untilReady } from "./server.ts"
import { stores } from "./stores.ts"

export interface Member extends Server {
  readonly id: string
}

export interface EtcdCluster {
  readonly members: ReadonlyArray<Member>
  readonly urls: Array<string>
  /** Finds the member that says that it leads. */
  readonly leader: () => Promise<Member>
  /** Cuts a member off from the others; clients still reach it. */
  readonly isolate: (member: Member) => void
  /** Ends all isolation. */
  readonly heal: () => void
  readonly stop: () => Promise<void>
}

const size = 3

/** Asks a member for its status. Returns nothing if it does not answer within a second. */
const statusOf = async (url: string) => {
  const client = new Etcd3({ hosts: url })
  try {
    return await Promise.race([
      client.maintenance.status(),
      new Promise<undefined>((resolve) => setTimeout(resolve, 1000))
    ])
  } catch {
    return undefined
  } finally {
    client.close()
  }
}

/** Returns a member's flags, without those about clients. */
const flagsOf = (index: number, listenUrl: string, peerUrls: ReadonlyArray<string>) => [
  `--name=member-${index}`,
  `--listen-peer-urls=${listenUrl}`,
  `--initial-advertise-peer-urls=${peerUrls[index]}`,
  `--initial-cluster=${peerUrls.map((url, other) => `member-${other}=${url}`).join()}`
]

/** Starts the members. Containers, too, reach each other through the proxies on this machine. */
const startMembers = async (
  peerPorts: ReadonlyArray<number>,
  proxyPorts: ReadonlyArray<number>
): Promise<ReadonlyArray<Server>> => {
  if (await Docker.isAvailable()) {
    const host = "host.docker.internal"
    const peerUrls = proxyPorts.map((port) => `http://${host}:${port}`)
    return Promise.all(peerPorts.map((port, index) =>
      Docker.start(stores.etcd, (definition) =>
        definition
          .withExposedPorts({ container: 2380, host: port })
          .withExtraHosts([{ host, ipAddress: "host-gateway" }])
          .withCommand([...stores.etcd.command, ...flagsOf(index, "http://0.0.0.0:2380", peerUrls)]))
    ))
  }
  const peerUrls = proxyPorts.map((port) => `http://127.0.0.1:${port}`)
  return Promise.all(
    peerPorts.map((port, index) => startBinary(stores.etcd, flagsOf(index, `http://127.0.0.1:${port}`, peerUrls)))
  )
}

export const start = async (): Promise<EtcdCluster> => {
  const peerPorts = await Promise.all(Array.from({ length: size }, freePort))
  const listenOn = await Docker.isAvailable() ? "0.0.0.0" : "127.0.0.1"
  const proxies = await Promise.all(peerPorts.map((port) => Proxy.make({ port }, listenOn)))
  const servers = await startMembers(peerPorts, proxies.map(({ port }) => port))
  const members = await Promise.all(servers.map(async (server): Promise<Member> => {
    await untilReady(stores.etcd, server.port, () => undefined)
    const status = await statusOf(server.url)
    return { ...server, id: status!.header.member_id }
  }))

  const leader = async (): Promise<Member> => {
    const statuses = await Promise.all(members.map(({ url }) => statusOf(url)))
    const index = statuses.findIndex((status) => status !== undefined && status.leader === status.header.member_id)
    return members[index] ?? leader()
  }

  return {
    members,
    urls: members.map(({ url }) => url),
    leader,
    isolate: (member) => {
      // Each request to a peer names the member that sends it.
      const from = `X-Server-From: ${BigInt(member.id).toString(16)}`
      for (const [index, proxy] of proxies.entries()) proxy.refuse(members[index] === member ? undefined : from)
    },
    heal: () => proxies.forEach((proxy) => proxy.accept()),
    stop: async () => {
      await Promise.all(members.map((member) => member.stop()))
      await Promise.all(proxies.map((proxy) => proxy.close()))
    }
  }
}
