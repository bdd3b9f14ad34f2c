/** Revocations of holds while others contend. */
import { Deferred, Effect, Fiber } from "effect"
import type { Scope } from "effect"
import { expect } from "vitest"
import type { DistributedSemaphore } from "../../src/index.ts"
import { Lease } from "../../src/index.ts"

interface Contention {
  /** The same semaphore in several processes. */
  readonly semaphores: ReadonlyArray<DistributedSemaphore.DistributedSemaphore>
  readonly limit: number
  /** How many holds are revoked. */
  readonly victims: number
  /** How long the others of each process work, in milliseconds. */
  readonly pauses: ReadonlyArray<number>
  /** Waits until the process of the victims listens: it does so at most a second after they have held for one. */
  readonly listens: Effect.Effect<unknown, unknown>
}

/** Checks that revoked holders are interrupted within 100 ms, that other holds keep the limit, and tokens differ. */
export const interruptWithin100Millis = Effect.fnUntraced(function*(
  { limit, listens, pauses, semaphores, victims }: Contention
): Effect.fn.Return<void, unknown, Scope.Scope> {
  const [first, second] = semaphores as [typeof semaphores[0], typeof semaphores[0]]

  /** The tokens of the current holds, without the revoked ones. */
  const holding = new Set<bigint>()
  const tokens: Array<bigint> = []
  let most = 0
  const record = Effect.acquireRelease(
    Effect.map(Lease, ({ fencingToken }) => {
      const token = fencingToken.valueOrUndefined!
      tokens.push(token)
      most = Math.max(most, holding.add(token).size)
      return token
    }),
    (token) => Effect.sync(() => holding.delete(token))
  )
  const revoked = yield* Effect.forEach(
    Array.from({ length: victims }, (_, index) => `victim ${index}`),
    (id) =>
      Effect.gen(function*() {
        const token = yield* Deferred.make<bigint>()
        const work = Effect.andThen(
          Effect.tap(record, (own) => Deferred.succeed(token, own)),
          Effect.never
        )
        const fiber = yield* Effect.forkScoped(
          Effect.flip(Effect.scoped(work).pipe(first.withPermits(1, { identifier: id })))
        )
        return { id, fiber, token: yield* Deferred.await(token) }
      })
  )
  let stop = false
  const load = semaphores.flatMap((semaphore) =>
    pauses.map((millis) =>
      Effect.scoped(Effect.andThen(record, Effect.sleep(millis))).pipe(
        semaphore.withPermits(1),
        Effect.repeat({
          while: () => !stop
        })
      )
    )
  )
  const working = yield* Effect.forkScoped(Effect.all(load, { concurrency: "unbounded" }))
  yield* listens

  const delays = yield* Effect.forEach(revoked, ({ fiber, id, token }) =>
    Effect.gen(function*() {
      holding.delete(token)
      expect(yield* second.revoke(id)).toBe(1)
      const start = performance.now()
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "LockLostError", identifier: id, reason: "revoked" })
      return performance.now() - start
    }))
  stop = true
  yield* Fiber.join(working)
  // A busy machine may be late at times.
  expect(delays.toSorted((a, b) => a - b)[victims >> 1]).toBeLessThan(100)
  expect(most).toBe(limit)
  expect(new Set(tokens).size).toBe(tokens.length)
  expect(yield* first.currentCount).toBe(0)
})
