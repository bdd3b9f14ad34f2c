/** A TCP proxy between a client and its server, for the faults of networks. */
import * as Net from "node:net"

export interface Proxy {
  readonly port: number
  /** Cuts the connection on which the next request containing `text` is answered, instead of passing the answer on. */
  readonly loseReplyTo: (text: string) => Promise<void>
  /** Cuts all connections and refuses new ones. */
  readonly refuse: () => void
  readonly close: () => Promise<void>
}

export const make = async (target: { readonly port: number; readonly host?: string }): Promise<Proxy> => {
  const pairs = new Set<readonly [Net.Socket, Net.Socket]>()
  let refusing = false
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
    refuse: () => {
      refusing = true
      cutAll()
    },
    close: async () => {
      cutAll()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}
