/**
 * A process that has nothing open while it waits. Prints "done" if it stays alive until its program ends. Its argument
 * says what it waits for.
 */
import { Duration, Effect, Layer } from "effect"
import { DistributedSemaphore, DistributedSemaphoreBacking, MemoryBacking } from "../../src/index.ts"
import * as FakeBacking from "./fakeBacking.ts"

const begin = performance.now()

const polled = Layer.succeed(DistributedSemaphoreBacking, {
  tryAcquire: () => Effect.sync(() => performance.now() - begin > 1000),
  release: () => Effect.succeed(1),
  refresh: () => Effect.succeed(true),
  getCount: () => Effect.succeed(0)
})

const mutex = DistributedSemaphore.make("key", { ttl: "2 seconds" })

const waits: Record<string, Effect.Effect<unknown, unknown>> = {
  "permits of a store that is polled": Effect.provide(
    Effect.flatMap(mutex, ({ withPermits }) => withPermits(1)(Effect.void)),
    polled
  ),
  "the lease of a holder that has crashed": Effect.gen(function*() {
    const backing = yield* DistributedSemaphoreBacking
    const { withPermits } = yield* mutex
    yield* backing.tryAcquire("key", "crashed", Duration.millis(500), 1, 1)
    yield* withPermits(1)(Effect.void)
  }).pipe(Effect.provide(MemoryBacking.layer)),
  "an identifier in use": Effect.gen(function*() {
    const { withPermits } = yield* mutex
    const named = withPermits(1, { identifier: "cron" })
    yield* Effect.all([named(Effect.sleep("100 millis")), named(Effect.void)], { concurrency: "unbounded" })
  }).pipe(Effect.provide(MemoryBacking.layer)),
  "an acquire that is never answered": Effect.flatMap(
    mutex,
    ({ withPermits }) => Effect.exit(withPermits(1)(Effect.void))
  ).pipe(
    Effect.provide(FakeBacking.layer([], () => ({ tryAcquire: () => FakeBacking.hangs })))
  ),
  "a release that is never answered": Effect.flatMap(mutex, ({ withPermits }) => withPermits(1)(Effect.void)).pipe(
    Effect.provide(FakeBacking.layer([], () => ({ release: () => FakeBacking.hangs })))
  )
}

await Effect.runPromise(waits[process.argv[2]!]!)
process.stdout.write("done")
