/** effect-distributed-lock, as it was built to dist/. This uses only what is public. */
import type { DistributedSemaphoreBacking } from "../../../dist/index.js"
import { DistributedSemaphore } from "../../../dist/index.js"
import type { Layer } from "../effect.ts"
import { Effect } from "../effect.ts"
import { build, worker } from "../fibers.ts"
import type { Client, Setting } from "../subject.ts"

export const client = async (
  layer: Layer.Layer<DistributedSemaphoreBacking, unknown>,
  { limit, ttlMillis }: Setting
): Promise<Client> => {
  const context = await build(layer)
  const semaphores = new Map<string, DistributedSemaphore.DistributedSemaphore>()
  const semaphore = (key: string) => {
    const known = semaphores.get(key)
    if (known) return known
    const made = Effect.runSync(
      Effect.provideContext(DistributedSemaphore.make(key, { ttl: ttlMillis, limit }), context)
    )
    semaphores.set(key, made)
    return made
  }
  return {
    run: worker(semaphore),
    waiting: (key) => Effect.runPromise(Effect.map(semaphore(key).inspect, ({ waiterCount }) => waiterCount))
  }
}
