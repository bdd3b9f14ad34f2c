/** A worker asks for permits and works under their lease, again and again. */
import { Effect, Option, Random } from "effect"
import { DistributedSemaphore, Lease } from "../src/index.ts"
import type { DistributedSemaphoreBacking } from "../src/index.ts"

export const limit = 3
export const workers = 8
const rounds = 3
export const ttlMillis = 3000

export interface Event {
  readonly worker: string
  readonly happened: "asks" | "holds" | "is done" | "lost its lease"
  readonly permits: number
  readonly token?: string
}

export const semaphore = (key: string) => DistributedSemaphore.make(key, { limit, ttl: ttlMillis })

/** Every third worker asks for two permits at a time, to show that small requests do not starve large ones. */
export const run = (key: string, index: number, report: (event: Event) => void): Effect.Effect<
  void,
  unknown,
  DistributedSemaphoreBacking
> =>
  Effect.gen(function*() {
    const worker = `worker-${index}`
    const permits = index % 3 === 0 ? 2 : 1
    const { withPermits } = yield* semaphore(key)
    for (let round = 1; round <= rounds; round++) {
      yield* Effect.sleep(yield* Random.nextIntBetween(0, 300))
      report({ worker, happened: "asks", permits })
      yield* Effect.gen(function*() {
        const { fencingToken } = yield* Lease
        report({
          worker,
          happened: "holds",
          permits,
          token: Option.match(fencingToken, { onNone: () => "-", onSome: String })
        })
        yield* Effect.sleep(yield* Random.nextIntBetween(300, 800))
      }).pipe(
        withPermits(permits, { identifier: `${worker} #${round}` }),
        Effect.tap(() => Effect.sync(() => report({ worker, happened: "is done", permits }))),
        Effect.catchTag(
          "LockLostError",
          () => Effect.sync(() => report({ worker, happened: "lost its lease", permits }))
        )
      )
    }
  })
