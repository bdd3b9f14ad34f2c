/** Redis servers and clients for tests, and looks at what a server does and keeps. */
import { Effect } from "effect"
import type { Scope } from "effect"
import { Redis } from "ioredis"
import type { RedisOptions } from "ioredis"
import * as Net from "node:net"
import { startOwn } from "../servers/find.ts"
import type { Server } from "../servers/server.ts"
import { stores } from "../servers/stores.ts"
import { until } from "./until.ts"

export const server: Effect.Effect<Server, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => startOwn(stores.redis)),
  (server) => Effect.promise(() => server.stop())
)

export const connect = (url: string, options: Omit<RedisOptions, "replyMapping"> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Redis(url, options)
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

export const keys = (redis: Redis) => Effect.promise(() => redis.keys("*"))

/** Lists the channels that have subscribers. */
export const channels = (redis: Redis) =>
  Effect.promise(() => redis.pubsub("CHANNELS", "*") as Promise<ReadonlyArray<string>>)

export const connectedClients = (redis: Redis) =>
  Effect.map(Effect.promise(() => redis.info("clients")), (info) => Number(/connected_clients:(\d+)/.exec(info)?.[1]))

/**
 * Returns the commands that clients send while an effect runs, without those that scripts call. It uses a socket of its
 * own: the monitor of ioredis loses count when the first command arrives together with the confirmation.
 */
export const commandsDuring = <A, E, R>(url: string, effect: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const { hostname, port } = new URL(url)
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => Net.connect(Number(port), hostname)),
      (socket) => Effect.sync(() => socket.destroy())
    )
    let text = ""
    socket.setEncoding("latin1").on("data", (data) => text += data)
    socket.write("MONITOR\r\n")
    yield* until(Effect.sync(() => text.startsWith("+OK\r\n")))
    const value = yield* effect
    const redis = yield* connect(url)
    const mark = crypto.randomUUID()
    yield* Effect.promise(() => redis.echo(mark))
    yield* until(Effect.sync(() => text.includes(mark)))
    const commands = Array.from(text.matchAll(/^\+[\d.]+ \[\d+ ([^\]]+)\] "(\w+)"/gm))
      .filter(([, source]) => source !== "lua")
      .map(([, , name]) => name!.toLowerCase())
    // The last commands are those by which the marking client introduces itself, and the mark.
    return { value, commands: commands.slice(0, commands.findLastIndex((name) => !ownCommands.has(name)) + 1) }
  }))

const ownCommands = new Set(["hello", "client", "info", "echo"])
