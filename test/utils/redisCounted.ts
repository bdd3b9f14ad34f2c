/** A Redis of a test's own, on which it counts what operations cost. */
import { Effect } from "effect"
import type { Scope } from "effect"
import type { Redis } from "ioredis"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { RedisBacking } from "../../src/index.ts"
import { commandsDuring, connect, server } from "./redis.ts"
import { until } from "./until.ts"

/** Runs a body beside a server of its own, with the backing, and a client that observes. */
export const withServer = <A, E>(
  body: (context: { readonly url: string; readonly redis: Redis; readonly observer: Redis }) => Effect.Effect<
    A,
    E,
    DistributedSemaphoreBacking | Scope.Scope
  >
) =>
  Effect.gen(function*() {
    const { url } = yield* server
    const redis = yield* connect(url)
    const observer = yield* connect(url)
    return yield* Effect.provide(body({ url, redis, observer }), RedisBacking.layer(redis))
  })

/** Runs `redisProcess.ts`, and returns what it prints. */
export const inProcess = (url: string, ...args: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const program = fileURLToPath(new URL("redisProcess.ts", import.meta.url))
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", program, ...args],
      { env: { ...process.env, REDIS_URL: url }, timeout: 90_000 }
    )
    return JSON.parse(stdout)
  })

/** Returns whether "key" has so many contenders. */
export const inLine = (redis: Redis, contenders: number) =>
  Effect.map(Effect.promise(() => redis.zcount("semaphore:{key}", 2 ** 52, "+inf")), (length) => length === contenders)

/** Waits until no command has come for a while. */
export const quiet = (url: string) =>
  until(
    Effect.map(commandsDuring(url, Effect.sleep("300 millis")), ({ commands }) => commands.length <= 1),
    "20 seconds"
  )
