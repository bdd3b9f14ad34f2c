/** A running server that the tests have started, so that they can freeze, kill and restart it. */
import { createSocket } from "node:dgram"
import { once } from "node:events"
import * as Net from "node:net"
import type { Program } from "./stores.ts"

export interface Server {
  readonly url: string
  readonly port: number
  /** Stops the process without closing its connections (SIGSTOP). */
  readonly freeze: () => Promise<void>
  readonly thaw: () => Promise<void>
  /** Kills the process (SIGKILL). */
  readonly kill: () => Promise<void>
  /** Starts the server again, on the same port, with what it had stored. */
  readonly restart: () => Promise<void>
  /** Ends it and removes its data. */
  readonly stop: () => Promise<void>
}

/**
 * These ports are below those that clients get, so that no client takes one before a server does, or during a restart.
 * The nodes of a Redis Cluster also use the port 10,000 higher.
 */
const ports = { first: 10_000, count: 10_000 }

/**
 * Chooses a port on which nobody listens. Other processes that start servers do not choose it while this process lives, also before
 * the server listens, and during a restart: it is reserved by binding the UDP port of the same number, which no server here uses.
 */
export const freePort = async (): Promise<number> => {
  const port = ports.first + Math.floor(Math.random() * ports.count)
  const reservation = createSocket("udp4").unref()
  const listener = Net.createServer()
  try {
    reservation.bind(port, "127.0.0.1")
    await once(reservation, "listening")
    listener.listen(port, "127.0.0.1")
    await once(listener, "listening")
    listener.close()
    await once(listener, "close")
    return port
  } catch {
    reservation.close()
    return freePort()
  }
}

const deadline = 30_000

export const untilReady = async (
  store: Program,
  port: number,
  hasEnded: () => string | undefined | Promise<string | undefined>
): Promise<void> => {
  const start = Date.now()
  while (!(await store.isReady(store.url(port)))) {
    const end = await hasEnded()
    if (end !== undefined) throw new Error(`${store.name} ended before it was ready:\n${end}`)
    if (Date.now() - start > deadline) throw new Error(`${store.name} was not ready after ${deadline} ms`)
    // Less and less often: PostgreSQL starts a process for each question.
    await new Promise((resolve) => setTimeout(resolve, Math.max(10, (Date.now() - start) / 10)))
  }
}
