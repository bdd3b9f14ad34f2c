/** Two instances of a layer, which are like two processes: a notification is what one hears of the other's releases. */
import { Effect, Layer } from "effect"
import type { Context } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"

type Of = Context.Context<DistributedSemaphoreBacking>

/** Builds a layer twice. */
export const buildTwice = <E>(layer: Layer.Layer<DistributedSemaphoreBacking, E>) =>
  Effect.all([Layer.build(Layer.fresh(layer)), Layer.build(Layer.fresh(layer))])

/** Makes a semaphore in each of two processes. */
export const inBoth = (contexts: readonly [Of, Of], ...args: Parameters<typeof DistributedSemaphore.make>) =>
  Effect.all(contexts.map((context) => Effect.provide(DistributedSemaphore.make(...args), context)) as [
    Effect.Effect<DistributedSemaphore.DistributedSemaphore>,
    Effect.Effect<DistributedSemaphore.DistributedSemaphore>
  ])
