/** Lists the keys that have contenders. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Cluster, Redis } from "ioredis"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { patternOf, semaphoreOf } from "./names.ts"
import { isCluster } from "./subscriber.ts"

/** How many of a server's keys one command looks at. */
const perPage = 1000

/** Emits each key that is in use once, from all servers that have keys. */
export const make = (
  redis: Redis | Cluster,
  /** Includes the client's own prefix. */
  keyPrefix: string,
  isUsed: (key: string) => Effect.Effect<boolean, SemaphoreBackingError>
): Stream.Stream<string, SemaphoreBackingError> => {
  const ask = <A>(question: () => Promise<A>) =>
    Effect.tryPromise({ try: question, catch: (cause) => new SemaphoreBackingError({ operation: "keys", cause }) })

  const keysOf = (server: Redis, seen: Set<string>) =>
    Stream.paginate("0", (cursor: string) =>
      Effect.gen(function*() {
        const [next, names] = yield* ask(() =>
          server.scan(cursor, "MATCH", patternOf(keyPrefix), "COUNT", perPage, "TYPE", "zset")
        )
        const keys = names.flatMap((name) => semaphoreOf(keyPrefix, name) ?? []).filter((key) => !seen.has(key))
        for (const key of keys) seen.add(key)
        const used = yield* Effect.filter(keys, isUsed, { concurrency: "unbounded" })
        return [used, next === "0" ? Option.none() : Option.some(next)] as const
      }))

  return Stream.unwrap(Effect.map(
    // A Cluster's client knows its nodes once it has an answer to a command.
    ask(() => redis.time()),
    () => {
      const seen = new Set<string>()
      return Stream.fromIterable(isCluster(redis) ? redis.nodes("master") : [redis]).pipe(
        Stream.flatMap((server) => keysOf(server, seen))
      )
    }
  ))
}
