/** A late request to PostgreSQL harms nobody: neither an acquire that was given up (B12) nor an old release (B4). */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import { buildOn, freshName, server } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

const minute = Duration.minutes(1)

/** They wait more than they work, each with a server of its own. */
describe("a server that was frozen", { concurrent: true }, () => {
  it.live(
    "for 13 s leaves no hold of an acquire that was interrupted meanwhile, even if its release takes effect first",
    () =>
      Effect.gen(function*() {
        const postgres = yield* server
        const { backing, context } = yield* buildOn(postgres.url)({ pushBasedAcquireEnabled: false })
        const semaphore = yield* Effect.provide(
          DistributedSemaphore.make(freshName(), { limit: 20, ttl: "6 seconds" }),
          context
        )
        yield* semaphore.withPermits(1)(Effect.void)
        yield* Effect.promise(postgres.freeze)
        const attempts = yield* Effect.forEach(
          Array.from({ length: 10 }),
          () => Effect.forkScoped(semaphore.withPermits(1)(Effect.never), { startImmediately: true })
        )
        yield* Effect.sleep("100 millis")
        yield* Fiber.interruptAll(attempts)
        yield* Effect.sleep("13 seconds")
        yield* Effect.promise(postgres.thaw)
        // A hold that was left would stay for a ttl.
        for (let look = 0; look < 20; look++) {
          expect(yield* backing.getCount(semaphore.key, minute)).toBe(0)
          yield* Effect.sleep("50 millis")
        }
      }),
    60_000
  )

  it.live(
    "for longer than two ttl frees no new hold by the late release of an earlier one of the same identifier",
    () =>
      Effect.gen(function*() {
        const postgres = yield* server
        const { context } = yield* buildOn(postgres.url)({ pushBasedAcquireEnabled: false })
        yield* Effect.gen(function*() {
          for (let round = 0; round < 3; round++) {
            const semaphore = yield* DistributedSemaphore.make(freshName(), { ttl: "1 second" })
            const scope = yield* Scope.make()
            yield* Scope.provide(semaphore.take(1, { identifier: "cron" }), scope)
            yield* Effect.promise(postgres.freeze)
            yield* Scope.close(scope, Exit.void)
            // The core no longer waits for the release, which has reached the server.
            yield* Effect.sleep("2500 millis")
            const next = yield* Effect.forkScoped(semaphore.takeLease(1, { identifier: "cron" }), {
              startImmediately: true
            })
            yield* Effect.promise(postgres.thaw)
            const lease = yield* Fiber.join(next)
            yield* Effect.sleep("300 millis")
            expect(Duration.toMillis(yield* lease.remaining)).toBeGreaterThan(0)
            expect(yield* semaphore.currentCount).toBe(1)
          }
        }).pipe(Effect.provide(context))
      }),
    60_000
  )
})

describe("a release or a refresh with the token of an earlier hold", () => {
  it.live("touches no newer hold of the same identifier", () =>
    Effect.gen(function*() {
      const { backing } = yield* buildOn((yield* server).url)()
      const key = freshName()
      const acquire = backing.tryAcquire(key, "cron", minute, 1, 1)
      const first = yield* acquire
      if (typeof first === "boolean" || first._tag !== "Acquired") return expect(first).toBe("acquired")
      yield* backing.release(key, "cron", 1, first)
      const second = yield* acquire
      expect(yield* backing.release(key, "cron", 1, first)).toBe(0)
      expect(yield* backing.refresh(key, "cron", Duration.millis(1), 1, 1, first)).toBe(false)
      yield* until(Effect.map(backing.getCount(key, minute), (count) => count === 1))
      expect(yield* backing.refresh(key, "cron", minute, 1, 1)).toEqual(second)
    }))
})
