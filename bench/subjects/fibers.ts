/** Workers in fibers of Effect 4. */
import type { Context } from "./effect.ts"
import { Effect, Layer, Scope } from "./effect.ts"
import type { Client } from "./subject.ts"

interface Semaphore {
  readonly withPermits: (permits: number) => (effect: Effect.Effect<void>) => Effect.Effect<void, unknown>
}

/** Each worker is one fiber. */
export const worker = (semaphore: (key: string) => Semaphore): Client["run"] => ({ holding, next, released }) => {
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

/** A scope that lasts as long as the process. */
export const scope = Effect.runSync(Scope.make())

export const build = <A>(layer: Layer.Layer<A, unknown>): Promise<Context.Context<A>> =>
  Effect.runPromise(Layer.buildWithScope(layer, scope))
