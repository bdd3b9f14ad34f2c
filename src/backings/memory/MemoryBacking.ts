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
import type { Acquired, SemaphoreState, Waiting } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"

/** Times are nanoseconds of the monotonic clock. */
interface Hold {
  readonly permits: number
  readonly token: bigint
  readonly expiry: bigint
}

interface Place {
  readonly permits: number
  readonly limit: number
  readonly expiry: bigint
}

interface Semaphore {
  /** In the order of acquisition. */
  readonly holds: Map<string, Hold>
  /** In the order of arrival: setting an entry that a Map has already leaves it where it is. */
  readonly line: Map<string, Place>
}

const second = 1_000_000_000n

const permitsOf = (entries: Iterable<{ readonly permits: number }>): number => {
  let sum = 0
  for (const { permits } of entries) sum += permits
  return sum
}

const min = (first: bigint, ...others: ReadonlyArray<bigint>) => others.reduce((a, b) => a < b ? a : b, first)

const nanos = (duration: Duration.Duration) => Duration.toNanosUnsafe(duration)

const atNow = <A>(f: (now: bigint) => A): Effect.Effect<A> =>
  Clock.clockWith((clock) => Effect.sync(() => f(clock.monotonicTimeNanosUnsafe())))

const make = (): DistributedSemaphoreBacking => {
  const semaphores = new Map<string, Semaphore>()
  const listeners = new Map<string, Set<(holderId: string) => void>>()
  let lastToken = 0n

  /** Drops what has expired, does the operation, and wakes those who can go if anything was freed. */
  const operate = <A>(key: string, operation: (semaphore: Semaphore, now: bigint) => A): Effect.Effect<A> =>
    atNow((now) => {
      const semaphore = semaphores.get(key) ?? { holds: new Map<string, Hold>(), line: new Map<string, Place>() }
      const demand = () => permitsOf(semaphore.holds.values()) + permitsOf(semaphore.line.values())
      const before = demand()
      for (const entries of [semaphore.holds, semaphore.line]) {
        for (const [id, { expiry }] of entries) {
          if (expiry <= now) entries.delete(id)
        }
      }
      const live = demand()
      const result = operation(semaphore, now)
      if (live < before || demand() < live) wake(key, semaphore)
      if (semaphore.holds.size + semaphore.line.size > 0) semaphores.set(key, semaphore)
      else semaphores.delete(key)
      return result
    })

  const wake = (key: string, { holds, line }: Semaphore) => {
    let demand = permitsOf(holds.values())
    for (const [id, { limit, permits }] of line) {
      demand += permits
      if (demand - (holds.get(id)?.permits ?? 0) > limit) continue
      for (const listener of listeners.get(key) ?? []) listener(id)
    }
  }

  const look = (key: string) =>
    atNow((now) => {
      const semaphore = semaphores.get(key)
      const live = <A extends { readonly expiry: bigint }>(entries: Map<string, A> | undefined) =>
        Array.from(entries ?? []).filter(([, { expiry }]) => expiry > now)
      return { holds: live(semaphore?.holds), line: live(semaphore?.line), now }
    })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      operate(key, ({ holds, line }, now): false | Acquired | Waiting => {
        const expiry = now + nanos(ttl)
        const own = holds.get(holderId)
        const waiters = Array.from(line.keys())
        const rank = waiters.indexOf(holderId)
        const position = rank < 0 ? waiters.length : rank
        const ahead = waiters.slice(0, position).map((id) => line.get(id)!)
        const free = limit - permitsOf(holds.values()) + (own?.permits ?? 0)

        if (own?.permits === permits || permitsOf(ahead) + permits <= free) {
          const token = own?.permits === permits ? own.token : ++lastToken
          if (own?.token !== token) holds.delete(holderId)
          holds.set(holderId, { permits, token, expiry })
          line.delete(holderId)
          return { _tag: "Acquired", fencingToken: FencingToken(token) }
        }
        if (!options?.queue) return false
        line.set(holderId, { permits, limit, expiry })
        const expiries = [...holds.values(), ...ahead].map((entry) => entry.expiry - now)
        const renewal = nanos(ttl) / 3n
        return {
          _tag: "Waiting",
          position,
          retryAfter: Duration.nanos(min(renewal, ...expiries, ...position === 0 ? [second] : []))
        }
      }),

    release: (key, holderId, permits) =>
      operate(key, ({ holds, line }) => {
        line.delete(holderId)
        const own = holds.get(holderId)
        if (own === undefined) return 0
        if (own.permits > permits) holds.set(holderId, { ...own, permits: own.permits - permits })
        else holds.delete(holderId)
        return Math.min(own.permits, permits)
      }),

    refresh: (key, holderId, ttl) =>
      operate(key, ({ holds }, now) => {
        const own = holds.get(holderId)
        if (own === undefined) return false
        holds.set(holderId, { ...own, expiry: now + nanos(ttl) })
        return { _tag: "Acquired" as const, fencingToken: FencingToken(own.token) }
      }),

    getCount: (key) => Effect.map(look(key), ({ holds }) => permitsOf(holds.map(([, hold]) => hold))),

    onPermitsReleased: (key, holderId) =>
      Stream.callback<void>((queue) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const listener = (id: string) => {
              if (holderId === undefined || id === holderId) Queue.offerUnsafe(queue, undefined)
            }
            const ofKey = listeners.get(key) ?? new Set()
            listeners.set(key, ofKey.add(listener))
            Queue.offerUnsafe(queue, undefined)
            return listener
          }),
          (listener) =>
            Effect.sync(() => {
              const ofKey = listeners.get(key)
              if (ofKey?.delete(listener) && ofKey.size === 0) listeners.delete(key)
            })
        ), { bufferSize: 1, strategy: "sliding" }),

    inspect: (key) =>
      Effect.map(look(key), ({ holds, line, now }): SemaphoreState => ({
        holders: holds.map(([identifier, { expiry, permits, token }]) => ({
          identifier,
          permits,
          fencingToken: FencingToken(token),
          remaining: Duration.nanos(expiry - now)
        })),
        line: line.map(([identifier, { expiry, permits }]) => ({
          identifier,
          permits,
          remaining: Duration.nanos(expiry - now)
        }))
      }))
  })
}

/**
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DistributedSemaphoreBacking> = Layer.sync(DistributedSemaphoreBacking, make)
