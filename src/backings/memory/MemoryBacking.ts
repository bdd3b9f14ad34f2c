/**
 * Semaphores in the memory of one process, on Effect's `Clock`.
 *
 * **When to use**
 *
 * Use it for tests (with `TestClock`, loss, expiry and fairness take no time) and for development without a store.
 *
 * **Gotchas**
 *
 * Each build of the layer has its own semaphores. Processes share nothing.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Acquired, RefreshRequest, Revocation, SemaphoreState, Waiting } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken, mostListed } from "../../core/Backing.ts"
import { defaultOwner } from "../internal/owner.ts"
import type { Contender } from "./semaphore.ts"
import { Semaphore } from "./semaphore.ts"

const second = 1_000_000_000n

const nanos = (duration: Duration.Duration) => Duration.toNanosUnsafe(duration)

/** Runs an operation, by the monotonic clock. It takes effect when it runs, so it never comes late (B12). */
const atNow = <A>(f: (now: bigint, clock: Clock.Clock) => A): Effect.Effect<A> =>
  Clock.clockWith((clock) => Effect.sync(() => f(clock.monotonicTimeNanosUnsafe(), clock)))

const make = (): DistributedSemaphoreBacking => {
  const semaphores = new Map<string, Semaphore>()
  const grants = makeListeners<bigint>()
  const changes = makeListeners<void>()
  const revocations = makeListeners<Revocation>()
  let lastToken = 0n

  const operate = <A>(key: string, now: bigint, operation: (semaphore: Semaphore) => A): A => {
    const semaphore = semaphores.get(key) ?? new Semaphore((token) => grants.notify(key, token))
    semaphore.expire(now)
    const result = operation(semaphore)
    if (semaphore.isEmpty) semaphores.delete(key)
    else semaphores.set(key, semaphore)
    changes.notify(key)
    return result
  }

  const answer = (
    semaphore: Semaphore,
    contender: Contender,
    ttl: Duration.Duration,
    asked: Pick<RefreshRequest, "limit" | "permits">,
    now: bigint
  ): Acquired | Waiting => {
    const fencingToken = FencingToken(contender.token)
    const smallest = semaphore.smallestLimit(contender.limit)
    const limit = smallest < asked.limit ? smallest : undefined
    if (semaphore.holds(contender)) {
      const permits = contender.permits < asked.permits ? contender.permits : undefined
      return { _tag: "Acquired", fencingToken, permits, limit }
    }
    const position = semaphore.position(contender)
    const bounds = [nanos(ttl) / 3n, semaphore.nextExpiry() - now, ...position === 0 ? [second] : []]
    const retryAfter = Duration.nanos(bounds.reduce((a, b) => a < b ? a : b))
    return { _tag: "Waiting", fencingToken, position, retryAfter, limit }
  }

  const refreshAll = (requests: ReadonlyArray<RefreshRequest>, now: bigint) => {
    const found = requests.map(({ fencingToken, holderId, key, ttl }) =>
      operate(key, now, (semaphore) => {
        const own = semaphore.find(holderId, fencingToken)
        if (own !== undefined) semaphore.extend(own, now + nanos(ttl))
        return { semaphore, own }
      })
    )
    return found.map(({ own, semaphore }, index) => {
      const request = requests[index]!
      return own !== undefined && answer(semaphore, own, request.ttl, request, now)
    })
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
      atNow((now, clock) =>
        operate(key, now, (semaphore) => {
          const since = clock.currentTimeMillisUnsafe()
          const request = { id: holderId, permits, limit, since, expiry: now + nanos(ttl) }
          const contender = semaphore.ask(request, () => ++lastToken, options?.queue ?? false)
          return contender !== undefined && answer(semaphore, contender, ttl, request, now)
        })
      ),

    release: (key, holderId, permits, options) =>
      atNow((now) => {
        const freed = operate(key, now, (semaphore) => semaphore.release(holderId, permits, options?.fencingToken))
        if (options?.revoke) revocations.notify("", { key, holderId })
        return freed
      }),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      atNow((now) =>
        refreshAll([{ key, holderId, ttl, limit, permits, fencingToken: options?.fencingToken }], now)[0]!
      ),

    refreshAll: (requests) => atNow((now) => refreshAll(requests, now)),

    getCount: (key) => Effect.map(look(key), ({ holders }) => holders.reduce((sum, { permits }) => sum + permits, 0)),

    onPermitsReleased: (key) =>
      Stream.callback<void | FencingToken>((queue) =>
        Effect.andThen(
          grants.listen(key, (token) => Queue.offerUnsafe(queue, FencingToken(token))),
          Effect.sync(() => Queue.offerUnsafe(queue, undefined))
        )
      ),

    onRevoked: Stream.callback<Revocation>((queue) =>
      revocations.listen("", (event) => Queue.offerUnsafe(queue, event))
    ),

    onChanged: (key) =>
      Stream.callback<void>(
        (queue) => changes.listen(key, () => Queue.offerUnsafe(queue, undefined)),
        { bufferSize: 1, strategy: "sliding" }
      ),

    inspect: (key) =>
      Effect.map(look(key), ({ holders, line, now }): SemaphoreState => {
        const describe = ({ expiry, id, permits, since, token }: Contender) => ({
          identifier: id,
          permits,
          fencingToken: FencingToken(token),
          remaining: Duration.nanos(expiry - now),
          owner: defaultOwner,
          since: DateTime.makeUnsafe(since)
        })
        return {
          holders: holders.slice(0, mostListed).map(describe),
          line: line.slice(0, mostListed).map(describe),
          holderCount: holders.length,
          waiterCount: line.length
        }
      }),

    keys: Stream.unwrap(Effect.sync(() => Stream.fromIterable(Array.from(semaphores.keys())))).pipe(
      Stream.filterEffect((key) => Effect.map(look(key), ({ holders, line }) => holders.length + line.length > 0))
    )
  })
}

interface Listeners<A> {
  readonly notify: (key: string, event: A) => void
  readonly listen: (key: string, listener: (event: A) => void) => Effect.Effect<void, never, Scope.Scope>
}

const makeListeners = <A>(): Listeners<A> => {
  const listeners = new Map<string, Set<(event: A) => void>>()
  return {
    notify: (key, event) => listeners.get(key)?.forEach((listener) => listener(event)),
    listen: (key, listener) =>
      Effect.acquireRelease(
        Effect.sync(() => void listeners.set(key, (listeners.get(key) ?? new Set()).add(listener))),
        () =>
          Effect.sync(() => {
            const ofKey = listeners.get(key)
            if (ofKey?.delete(listener) && ofKey.size === 0) listeners.delete(key)
          })
      )
  }
}

/**
 * Keeps semaphores in the memory of this process.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DistributedSemaphoreBacking> = Layer.sync(DistributedSemaphoreBacking, make)
