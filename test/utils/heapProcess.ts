/**
 * A process with many contenders of one key in memory. Prints JSON: the bytes of heap that each hold and each waiter
 * takes, and whether the waiters acquired in order.
 */
import { Deferred, Effect, Fiber } from "effect"
import { DistributedSemaphore, MemoryBacking } from "../../src/index.ts"

const size = Number(process.argv[2])

const heap = () => {
  globalThis.gc!()
  return process.memoryUsage().heapUsed
}

/** Starts a fiber for each index, and measures the heap that each takes. */
const perFiber = <R>(effect: (index: number) => Effect.Effect<unknown, unknown, R>) =>
  Effect.gen(function*() {
    const before = heap()
    const fibers = yield* Effect.forEach(
      Array.from({ length: size }, (_, index) => index),
      (index) => Effect.forkDetach(effect(index), { startImmediately: true })
    )
    yield* Effect.yieldNow
    return { bytes: (heap() - before) / size, fibers }
  })

await Effect.gen(function*() {
  const idle = yield* perFiber(() => Effect.never)

  const pool = yield* DistributedSemaphore.make("pool", { limit: size })
  const holds = yield* perFiber(() => pool.withPermits(1)(Effect.never))

  const mutex = yield* DistributedSemaphore.make("mutex")
  const release = yield* Deferred.make<void>()
  yield* Effect.forkDetach(mutex.withPermits(1)(Deferred.await(release)), { startImmediately: true })
  const order: Array<number> = []
  const waiters = yield* perFiber((index) => mutex.withPermits(1)(Effect.sync(() => order.push(index))))
  yield* Deferred.succeed(release, undefined)
  yield* Fiber.joinAll(waiters.fibers)

  const figures = {
    hold: holds.bytes - idle.bytes,
    waiter: waiters.bytes - idle.bytes,
    inOrder: order.length === size && order.every((value, index) => value === index),
    residentMegabytes: process.resourceUsage().maxRSS / 1024
  }
  yield* Effect.sync(() => process.stdout.write(JSON.stringify(figures)))
}).pipe(Effect.provide(MemoryBacking.layer), Effect.runPromise)
process.exit()
