/** A TCP proxy between a client and its server, for the faults of networks. */
import * as Net from "node:net"

export interface Proxy {
  readonly port: number
  /** Cuts the connection of the next request that contains `text` when the answer comes, and does not pass that on. */
  readonly loseReplyTo: (text: string | RegExp, how?: "close" | "reset") => Promise<void>
  /** Cuts all connections and refuses new ones, or only those whose first bytes contain `greeting`. */
  readonly refuse: (greeting?: string) => void
  /** Ends all refusals. */
  readonly accept: () => void
  /** Sends new connections to another server. Those that are open stay where they are. */
  readonly redirect: (target: Target) => void
  readonly close: () => Promise<void>
}

interface Target {
  readonly port: number
  readonly host?: string
}

const contains = (data: Buffer, text: string | RegExp) =>
  typeof text === "string" ? data.includes(text) : text.test(data.toString("latin1"))

export const make = async (first: Target, listenOn = "127.0.0.1"): Promise<Proxy> => {
  let target = first
  const pairs = new Map<readonly [Net.Socket, Net.Socket], Buffer | undefined>()
  let refused: ReadonlyArray<string> = []
  let lose: { readonly text: string | RegExp; readonly how: "close" | "reset"; readonly done: () => void } | undefined

  const server = Net.createServer((client) => {
    const upstream = Net.connect(target.port, target.host ?? "127.0.0.1")
    const pair = [client, upstream] as const
    pairs.set(pair, undefined)
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
    if (refused.includes("")) return end()
    client.on("data", (data) => {
      const greeting = pairs.get(pair) ?? data
      pairs.set(pair, greeting)
      if (refused.some((text) => greeting.includes(text))) return end()
      if (lose !== undefined && contains(data, lose.text)) {
        const { done, how } = lose
        cutOnReply = () => {
          if (how === "reset") client.resetAndDestroy()
          done()
        }
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
  await new Promise<void>((resolve) => server.listen(0, listenOn, resolve))

  const cutAll = () => pairs.forEach((_, pair) => pair.forEach((socket) => socket.destroy()))
  return {
    port: (server.address() as Net.AddressInfo).port,
    loseReplyTo: (text, how = "close") => new Promise((done) => lose = { text, how, done }),
    refuse: (greeting = "") => {
      refused = [...refused, greeting]
      for (const [pair, first] of pairs) {
        if (first === undefined ? greeting === "" : first.includes(greeting)) pair.forEach((socket) => socket.destroy())
      }
    },
    accept: () => void (refused = []),
    redirect: (other) => void (target = other),
    close: async () => {
      cutAll()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}
