/** Redis clients for tests, what a server has been asked, and what it keeps. */
import { Effect } from "effect"
import type { Scope } from "effect"
import { Redis } from "ioredis"
import type { RedisOptions } from "ioredis"
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

export const keys = (redis: Redis, pattern = "*") => Effect.promise(() => redis.keys(pattern))

/** The commands that clients send while an effect runs, without those of scripts and of the counting. */
export const commandsDuring = <A, E, R>(url: string, effect: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const redis = yield* connect(url)
    const monitor = yield* Effect.acquireRelease(
      Effect.promise(() => redis.monitor()),
      (monitor) => Effect.sync(() => monitor.disconnect())
    )
    const commands: Array<ReadonlyArray<string>> = []
    monitor.on("monitor", (_time: string, args: ReadonlyArray<string>, source: string) => {
      if (source !== "lua") commands.push(args)
    })
    const value = yield* effect
    const mark = crypto.randomUUID()
    yield* Effect.promise(() => redis.echo(mark))
    yield* until(Effect.sync(() => commands.some((args) => args[1] === mark)))
    return { value, commands: commands.filter((args) => args[1] !== mark) }
  }))
