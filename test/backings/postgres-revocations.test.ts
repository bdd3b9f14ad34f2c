/** How soon a holder hears that its hold was revoked. */
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { inject } from "vitest"
import type { FencingToken } from "../../src/index.ts"
import { DistributedSemaphore, Lease } from "../../src/index.ts"
import { buildOn, freshName } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

it.live("a revocation interrupts a hold of more than a second within 100 ms, while others come and go, and the limit is kept", () =>
  Effect.gen(function*() {
    const limit = 3
    const schema = freshName()
    const processes = yield* Effect.forEach([1, 2, 3], () => buildOn(url)({ schema }))
    const [one, two, three] = yield* Effect.forEach(
      processes,
      ({ context }) => Effect.provide(DistributedSemaphore.make("key", { limit, ttl: minute }), context)
    )

    /** For each hold: when it was asked for, when it was acquired, and when it was over at the latest. */
    const history: Array<{ id: string; token: FencingToken; asked: number; acquired: number; end: number }> = []
    const hold = (semaphore: DistributedSemaphore.DistributedSemaphore, id: string, work: Effect.Effect<void>) =>
      Effect.suspend(() => {
        const asked = performance.now()
        return semaphore.withPermits(1, { identifier: id })(Effect.gen(function*() {
          const token = yield* Effect.fromOption((yield* Lease).fencingToken)
          const entry = { id, token, asked, acquired: performance.now(), end: Number.POSITIVE_INFINITY }
          history.push(entry)
          yield* Effect.ensuring(work, Effect.sync(() => entry.end = Math.min(entry.end, performance.now())))
        }))
      })

    const others = yield* Effect.forEach(
      Array.from({ length: 12 }, (_, index) => index),
      (index) =>
        Effect.forkScoped(
          Effect.forever(hold(index % 2 === 0 ? one! : two!, `other ${index}`, Effect.sleep("2 millis")))
        )
    )
    const delays: Array<number> = []
    for (let round = 0; round < 3; round++) {
      const stuck = yield* Effect.forkScoped(hold(two!, "stuck", Effect.never))
      yield* until(Effect.sync(() => history.filter(({ id }) => id === "stuck").length > round))
      const entry = history.findLast(({ id }) => id === "stuck")!
      // The core listens once it has a hold that is older than a second, which it checks once a second.
      yield* Effect.sleep("2500 millis")
      // The hold counts until it is revoked. From then on there may be two holders.
      entry.end = performance.now()
      expect(yield* three!.revoke("stuck")).toBe(1)
      const revoked = performance.now()
      expect(yield* Effect.flip(Fiber.join(stuck))).toMatchObject({ _tag: "LockLostError", reason: "revoked" })
      delays.push(performance.now() - revoked)
    }
    // The machine may be busy with other tests.
    expect(delays.toSorted((a, b) => a - b)[1]).toBeLessThan(100)
    yield* Fiber.interruptAll(others)

    expect(history.length).toBeGreaterThan(100)
    const tokens = history.map(({ token }) => token)
    expect(new Set(tokens).size).toBe(tokens.length)
    expect(history.filter(({ end }) => end === Number.POSITIVE_INFINITY)).toEqual([])
    const together = history.map(({ acquired }) =>
      history.filter((other) => other.acquired <= acquired && acquired < other.end).length
    )
    expect(Math.max(...together)).toBe(limit)
    const overtaken = history.filter((earlier) =>
      history.some((later) => earlier.acquired < later.asked && later.token < earlier.token)
    )
    expect(overtaken).toEqual([])
  }))
