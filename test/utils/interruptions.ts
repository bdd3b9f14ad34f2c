/** L4: acquires that are interrupted at any moment. */
import { Duration, Effect, Fiber, Random } from "effect"
import { expect } from "vitest"
import type { DistributedSemaphore } from "../../src/index.ts"

const attempts = 1000

/**
 * Interrupts `take` a thousand times, ten at once, each after a random time up to the longest. Some of the
 * interruptions must hit acquires, and some must come too late.
 */
export const interruptTakes = Effect.fnUntraced(function*(
  semaphore: DistributedSemaphore.DistributedSemaphore,
  longestMillis: number
) {
  let acquired = 0
  const contender = Effect.gen(function*() {
    const attempt = yield* Effect.forkChild(
      Effect.scoped(Effect.andThen(semaphore.take(1), Effect.sync(() => acquired++))),
      { startImmediately: true }
    )
    yield* Effect.sleep(Duration.millis(yield* Random.nextBetween(0, longestMillis)))
    yield* Fiber.interrupt(attempt)
  })
  yield* Effect.forEach(Array.from({ length: attempts }), () => contender, { concurrency: 10, discard: true })
  expect(acquired).toBeGreaterThan(0)
  expect(acquired).toBeLessThan(attempts)
})
