/** A TCP proxy between a client and its server, for the faults of networks. */
import * as Net from "node:net"

export interface Proxy {
  readonly port: number
  /** Cuts the connection on which the next request containing `text` is answered, instead of passing the answer on. */
  readonly loseReplyTo: (text: string) => Promise<void>
  /** Passes nothing on any more, in either direction, and keeps connections open. */
  readonly stall: () => void
  /** Passes on what was held back, and all that follows. */
  readonly resume: () => void
  /** Cuts all connections and refuses new ones. */
  readonly refuse: () => void
  readonly accept: () => void
  readonly close: () => Promise<void>
}

export const make = async (target: { readonly port: number; readonly host?: string }): Promise<Proxy> => {
  const pairs = new Set<readonly [Net.Socket, Net.Socket]>()
  let refusing = false
  let stalled = false
  let lose: { readonly text: string; readonly done: () => void } | undefined

  const server = Net.createServer((client) => {
    if (refusing) return void client.destroy()
    const upstream = Net.connect(target.port, target.host ?? "127.0.0.1")
    const pair = [client, upstream] as const
    pairs.add(pair)
    let cutOnReply: (() => void) | undefined

    const end = () => {
      pairs.delete(pair)
      client.destroy()
      upstream.destroy()
    }
    for (const socket of pair) {
      socket.setNoDelay(true)
      socket.on("error", end)
      socket.on("close", end)
      if (stalled) socket.pause()
    }
    client.on("data", (data) => {
      if (lose !== undefined && data.includes(lose.text)) {
        cutOnReply = lose.done
        lose = undefined
      }
      upstream.write(data)
    })
    upstream.on("data", (data) => {
      if (cutOnReply === undefined) return client.write(data)
      cutOnReply()
      return end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))

  const cutAll = () => pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()))
  return {
    port: (server.address() as Net.AddressInfo).port,
    loseReplyTo: (text) => new Promise((done) => lose = { text, done }),
    stall: () => {
      stalled = true
      pairs.forEach((pair) => pair.forEach((socket) => socket.pause()))
    },
    resume: () => {
      stalled = false
      pairs.forEach((pair) => pair.forEach((socket) => socket.resume()))
    },
    refuse: () => {
      refusing = true
      cutAll()
    },
    accept: () => void (refusing = false),
    close: async () => {
      cutAll()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}
