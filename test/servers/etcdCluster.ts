/** An etcd cluster of three members on loopback. They reach each other through proxies, so that one can be cut off. */
import { Etcd3 } from "etcd3"
import * as Proxy from "../utils/proxy.ts"
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
  /** The member that leads, as it says itself. */
  readonly leader: () => Promise<Member>
  /** Cuts a member off from the others; clients still reach it. */
  readonly isolate: (member: Member) => void
  /** Ends all isolation. */
  readonly heal: () => void
  readonly stop: () => Promise<void>
}

const size = 3

/** What a member says of itself; nothing if it does not answer within a second. */
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

export const start = async (): Promise<EtcdCluster> => {
  const peerPorts = await Promise.all(Array.from({ length: size }, freePort))
  const proxies = await Promise.all(peerPorts.map((port) => Proxy.make({ port })))
  const peerUrls = proxies.map(({ port }) => `http://127.0.0.1:${port}`)
  const servers = await Promise.all(peerPorts.map((port, index) =>
    startBinary(stores.etcd, [
      `--name=member-${index}`,
      `--listen-peer-urls=http://127.0.0.1:${port}`,
      `--initial-advertise-peer-urls=${peerUrls[index]}`,
      `--initial-cluster=${peerUrls.map((url, other) => `member-${other}=${url}`).join()}`
    ])
  ))
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
      // Members say in each request to a peer who they are.
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
