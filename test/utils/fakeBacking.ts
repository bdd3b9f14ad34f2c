/** The memory backing with some members replaced, and a record of the calls. */
import { Effect, Layer } from "effect"
import { DistributedSemaphoreBacking, MemoryBacking, SemaphoreBackingError } from "../../src/index.ts"

type Backing = DistributedSemaphoreBacking

export interface Call {
  readonly operation: keyof Backing
  readonly holderId: string
}

/** Returns members that take the place of the real ones. */
export type Replace = (real: Backing) => Partial<Backing>

/** Records calls, and lets a test replace members in terms of the real ones. */
export const layer = (
  calls: Array<Call>,
  replace: Replace = () => ({})
): Layer.Layer<DistributedSemaphoreBacking> =>
  Layer.effect(
    DistributedSemaphoreBacking,
    Effect.map(DistributedSemaphoreBacking, (real) => {
      const replaced = replace(real)
      const backing = { ...real, ...replaced.refresh && { refreshAll: undefined }, ...replaced }
      const record = (operation: keyof Backing, holderId = "") => void calls.push({ operation, holderId })
      return DistributedSemaphoreBacking.of({
        ...backing,
        tryAcquire: (key, holderId, ...rest) => {
          record("tryAcquire", holderId)
          return backing.tryAcquire(key, holderId, ...rest)
        },
        refresh: (key, holderId, ...rest) => {
          record("refresh", holderId)
          return backing.refresh(key, holderId, ...rest)
        },
        release: (key, holderId, ...rest) => {
          record("release", holderId)
          return backing.release(key, holderId, ...rest)
        },
        refreshAll: backing.refreshAll && ((requests) => {
          record("refreshAll")
          return backing.refreshAll!(requests)
        }),
        onPermitsReleased: backing.onPermitsReleased && ((key) => {
          record("onPermitsReleased")
          return backing.onPermitsReleased!(key)
        }),
        getCount: (key, ttl) => {
          record("getCount")
          return backing.getCount(key, ttl)
        }
      })
    })
  ).pipe(Layer.provide(MemoryBacking.layer))

/** A store, or a driver, that does not answer and can't be interrupted. */
export const hangs: Effect.Effect<never> = Effect.uninterruptible(Effect.never)

/** Makes the error of a store that is down. */
export const failure = (operation: keyof Backing) => new SemaphoreBackingError({ operation, cause: "down" })
