/**
 * A custom backing of the smallest kind: five members and boolean answers. Its waiters poll, are all woken by each release, and
 * are in no order. A backing that also answers with tokens and places in line has an order.
 */
import { Clock, Duration, Effect, Layer, PubSub, Stream } from "effect"
import { DistributedSemaphore, DistributedSemaphoreBacking } from "effect-distributed-lock"

interface Hold {
  readonly permits: number
  readonly expiry: number
}

/** Keeps the holds of each key in a Map. Every operation first forgets what has expired. */
const MapBacking = Layer.effect(
  DistributedSemaphoreBacking,
  Effect.gen(function*() {
    // The clock of the store. In an operation it would be that of the caller.
    const clock = yield* Clock.Clock
    const keys = new Map<string, Map<string, Hold>>()
    const releases = yield* PubSub.sliding<string>(16)

    const holdsOf = (key: string) =>
      Effect.map(clock.currentTimeMillis, (now) => {
        const holds = keys.get(key) ?? new Map<string, Hold>()
        keys.set(key, holds)
        for (const [id, { expiry }] of holds) {
          if (expiry <= now) holds.delete(id)
        }
        return { holds, expiryIn: (ttl: Duration.Duration) => now + Duration.toMillis(ttl) }
      })
    const sum = (holds: Map<string, Hold>) => Array.from(holds.values()).reduce((sum, { permits }) => sum + permits, 0)

    return DistributedSemaphoreBacking.of({
      tryAcquire: (key, holderId, ttl, limit, permits) =>
        Effect.map(holdsOf(key), ({ expiryIn, holds }) => {
          // The holder's own permits do not count against it, so that a repeated acquire does not count twice.
          const others = sum(holds) - (holds.get(holderId)?.permits ?? 0)
          if (others + permits > limit) return false
          holds.set(holderId, { permits, expiry: expiryIn(ttl) })
          return true
        }),

      release: (key, holderId, permits) =>
        Effect.gen(function*() {
          const { holds } = yield* holdsOf(key)
          const held = holds.get(holderId)
          if (held === undefined) return 0
          if (held.permits > permits) holds.set(holderId, { ...held, permits: held.permits - permits })
          else holds.delete(holderId)
          yield* PubSub.publish(releases, key)
          return Math.min(held.permits, permits)
        }),

      refresh: (key, holderId, ttl) =>
        Effect.map(holdsOf(key), ({ expiryIn, holds }) => {
          const held = holds.get(holderId)
          if (held === undefined) return false
          holds.set(holderId, { ...held, expiry: expiryIn(ttl) })
          return true
        }),

      getCount: (key) => Effect.map(holdsOf(key), ({ holds }) => sum(holds)),

      onPermitsReleased: (key) =>
        Stream.fromPubSub(releases).pipe(
          Stream.filter((released) => released === key),
          Stream.map(() => undefined)
        )
    })
  })
)

const program = Effect.gen(function*() {
  const semaphore = yield* DistributedSemaphore.make("licences", { limit: 2 })
  yield* Effect.forEach(
    ["Ada", "Grace", "Edsger", "Barbara"],
    (name) => Effect.delay(Effect.log(`${name} has used a licence`), "50 millis").pipe(semaphore.withPermits(1)),
    { concurrency: "unbounded" }
  )
  yield* Effect.log(`licences in use: ${yield* semaphore.currentCount}`)
})

await program.pipe(Effect.provide(MapBacking), Effect.runPromise)
