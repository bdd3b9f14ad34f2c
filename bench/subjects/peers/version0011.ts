/** effect-distributed-lock 0.0.11, on its own effect 3. */
import { Effect } from "effect"
import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock-0.0.11"
import { Redis } from "ioredis"
import type { Client, Setting } from "../subject.ts"

export const open = async ({ limit, ttlMillis, url }: Setting, push: boolean): Promise<Client> => {
  const layer = RedisBacking.layer(new Redis(url), { pushBasedAcquireEnabled: push })
  const semaphores = new Map<string, DistributedSemaphore.DistributedSemaphore>()
  const semaphore = (key: string) => {
    const known = semaphores.get(key)
    if (known) return known
    const made = Effect.runSync(Effect.provide(DistributedSemaphore.make(key, { ttl: ttlMillis, limit }), layer))
    semaphores.set(key, made)
    return made
  }
  return {
    run: ({ holding, next, released }) => {
      const work = Effect.suspend(() => {
        const promise = holding()
        return promise === undefined ? Effect.void : Effect.promise(() => promise)
      })
      return Effect.runPromise(Effect.gen(function*() {
        for (let ask = next(); ask !== undefined; ask = next()) {
          yield* semaphore(ask.key).withPermits(ask.permits)(work)
          released?.()
        }
      }))
    }
  }
}
