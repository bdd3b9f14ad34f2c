/**
 * Semaphores in the memory of one process, on Effect's `Clock`.
 *
 * **When to use**
 *
 * Use it for tests (with `TestClock`, loss, expiry and fairness take no time) and for development without a store.
 *
 * **Gotchas**
 *
 * Every build of the layer has semaphores of its own; processes share nothing.
 *
 * @since 0.1.0
 */
import { Clock, Duration, Effect, Layer, Queue, Stream } from "effect"
import type { Acquired, RefreshRequest, SemaphoreState, Waiting } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"
import type { Contender } from "./semaphore.ts"
import { Semaphore } from "./semaphore.ts"

const second = 1_000_000_000n

const nanos = (duration: Duration.Duration) => Duration.toNanosUnsafe(duration)

/** By the monotonic clock. An operation takes effect when it runs, so none comes late (B12). */
const atNow = <A>(f: (now: bigint) => A): Effect.Effect<A> =>
  Clock.clockWith((clock) => Effect.sync(() => f(clock.monotonicTimeNanosUnsafe())))

const make = (): DistributedSemaphoreBacking => {
  const semaphores = new Map<string, Semaphore>()
  const listeners = new Map<string, Set<(token: bigint) => void>>()
  let lastToken = 0n

  const operate = <A>(key: string, now: bigint, operation: (semaphore: Semaphore) => A): A => {
    const semaphore = semaphores.get(key) ??
      new Semaphore((token) => listeners.get(key)?.forEach((listener) => listener(token)))
    semaphore.expire(now)
    const result = operation(semaphore)
    if (semaphore.isEmpty) semaphores.delete(key)
    else semaphores.set(key, semaphore)
    return result
  }

  const answer = (
    semaphore: Semaphore,
    contender: Contender,
    ttl: Duration.Duration,
    now: bigint
  ): Acquired | Waiting => {
    const fencingToken = FencingToken(contender.token)
    if (semaphore.holds(contender)) return { _tag: "Acquired", fencingToken }
    const position = semaphore.position(contender)
    const bounds = [nanos(ttl) / 3n, semaphore.nextExpiry() - now, ...position === 0 ? [second] : []]
    const retryAfter = Duration.nanos(bounds.reduce((a, b) => a < b ? a : b))
    return { _tag: "Waiting", fencingToken, position, retryAfter }
  }

  const refreshAll = (requests: ReadonlyArray<RefreshRequest>, now: bigint) => {
    const found = requests.map(({ fencingToken, holderId, key, ttl }) =>
      operate(key, now, (semaphore) => {
        const own = semaphore.find(holderId, fencingToken)
        if (own !== undefined) semaphore.extend(own, now + nanos(ttl))
        return { semaphore, own }
      })
    )
    return found.map(({ own, semaphore }, index) =>
      own !== undefined && answer(semaphore, own, requests[index]!.ttl, now)
    )
  }

  const look = (key: string) =>
    atNow((now) => {
      const semaphore = semaphores.get(key)
      const live = (contenders: Map<string, Contender> | undefined) =>
        Array.from(contenders?.values() ?? []).filter(({ expiry }) => expiry > now)
      return { holders: live(semaphore?.holders), line: live(semaphore?.waiters), now }
    })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      atNow((now) =>
        operate(key, now, (semaphore) => {
          const request = { id: holderId, permits, limit, expiry: now + nanos(ttl) }
          const contender = semaphore.ask(request, () => ++lastToken, options?.queue ?? false)
          return contender !== undefined && answer(semaphore, contender, ttl, now)
        })
      ),

    release: (key, holderId, permits, options) =>
      atNow((now) => operate(key, now, (semaphore) => semaphore.release(holderId, permits, options?.fencingToken))),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      atNow((now) => refreshAll([{ key, holderId, ttl, limit, permits, ...options }], now)[0]!),

    refreshAll: (requests) => atNow((now) => refreshAll(requests, now)),

    getCount: (key) => Effect.map(look(key), ({ holders }) => holders.reduce((sum, { permits }) => sum + permits, 0)),

    onPermitsReleased: (key) =>
      Stream.callback<void | FencingToken>((queue) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const listener = (token: bigint) => void Queue.offerUnsafe(queue, FencingToken(token))
            listeners.set(key, (listeners.get(key) ?? new Set()).add(listener))
            Queue.offerUnsafe(queue, undefined)
            return listener
          }),
          (listener) =>
            Effect.sync(() => {
              const ofKey = listeners.get(key)
              if (ofKey?.delete(listener) && ofKey.size === 0) listeners.delete(key)
            })
        )
      ),

    inspect: (key) =>
      Effect.map(look(key), ({ holders, line, now }): SemaphoreState => {
        const describe = ({ expiry, id, permits, token }: Contender) => ({
          identifier: id,
          permits,
          fencingToken: FencingToken(token),
          remaining: Duration.nanos(expiry - now)
        })
        return { holders: holders.map(describe), line: line.map(describe) }
      })
  })
}

/**
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DistributedSemaphoreBacking> = Layer.sync(DistributedSemaphoreBacking, make)
