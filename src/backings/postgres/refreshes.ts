/**
 * Refreshes many holds by one statement. The more holds are refreshed, the longer each waits for others to join it: with a
 * thousand, a sixtieth of the ttl; a single one hardly at all.
 */
import { Deferred, Duration, Effect, Exit } from "effect"
import type { Scope } from "effect"

export interface Refresh {
  readonly key: string
  readonly holderId: string
  readonly ttlMillis: number
}

/** As many that most wait for each other. */
const many = 1000

/** Locks are few: so many keys at once. */
const largestBatch = 200

export const make = Effect.fnUntraced(function*<A, E>(
  /** Answers in the order of the refreshes. */
  send: (refreshes: ReadonlyArray<Refresh>) => Effect.Effect<ReadonlyArray<A>, E>
): Effect.fn.Return<(refresh: Refresh) => Effect.Effect<A, E>, never, Scope.Scope> {
  const scope = yield* Effect.scope
  let waiting: Array<{ readonly refresh: Refresh; readonly answer: Deferred.Deferred<A, E> }> = []
  /** Those of the last ttl, by the time of their last refresh. */
  const recent = new Map<string, number>()

  const countRecent = ({ holderId, key, ttlMillis }: Refresh) => {
    const now = performance.now()
    const name = JSON.stringify([key, holderId])
    recent.delete(name)
    recent.set(name, now)
    for (const [other, time] of recent) {
      if (time > now - ttlMillis) break
      recent.delete(other)
    }
    return recent.size
  }

  const flush = Effect.suspend(() => {
    const batch = waiting
    waiting = []
    return Effect.forEach(
      Array.from(
        { length: Math.ceil(batch.length / largestBatch) },
        (_, index) => batch.slice(index * largestBatch, (index + 1) * largestBatch)
      ),
      (part) =>
        Effect.flatMap(
          Effect.exit(send(part.map(({ refresh }) => refresh))),
          (exit) =>
            Effect.forEach(part, ({ answer }, index) =>
              Deferred.done(answer, Exit.map(exit, (answers) => answers[index]!)), {
              discard: true
            })
        ),
      { discard: true }
    )
  })

  return (refresh) =>
    Effect.gen(function*() {
      const answer = yield* Deferred.make<A, E>()
      const active = Math.min(countRecent(refresh), many)
      waiting.push({ refresh, answer })
      if (waiting.length === 1) {
        const pause = Duration.millis(active === 1 ? 0 : refresh.ttlMillis / 60 * active / many)
        yield* Effect.forkIn(Effect.andThen(Effect.sleep(pause), flush), scope)
      }
      return yield* Deferred.await(answer)
    })
})
