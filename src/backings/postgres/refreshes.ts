/**
 * Refreshes many holds by one statement. The more holds are refreshed, the longer each waits for others to join it: with a
 * thousand, a sixtieth of the ttl; a single one hardly at all.
 */
import { Deferred, Duration, Effect, Exit } from "effect"

export interface Refresh {
  readonly key: string
  readonly holderId: string
  readonly ttlMillis: number
}

interface Waiting<A, E> {
  readonly refresh: Refresh
  readonly answer: Deferred.Deferred<A, E>
}

/** As many that most wait for each other. */
const many = 1000

/** Locks are few: so many keys at once. */
const largestBatch = 200

export const make = <A, E>(
  /** Answers in the order of the refreshes. */
  send: (refreshes: ReadonlyArray<Refresh>) => Effect.Effect<ReadonlyArray<A>, E>
): (refresh: Refresh) => Effect.Effect<A, E> => {
  /** Those of the next batch. Who refreshes the same hold at the same time shares an answer: one row is updated once. */
  let next = new Map<string, Waiting<A, E>>()
  /** Holds that were refreshed within the last ttl, by the time of their last refresh. */
  const recent = new Map<string, number>()

  const countRecent = (name: string, ttlMillis: number) => {
    const now = performance.now()
    recent.delete(name)
    recent.set(name, now)
    for (const [other, time] of recent) {
      if (time > now - ttlMillis) break
      recent.delete(other)
    }
    return recent.size
  }

  const sendAll = Effect.fnUntraced(function*(batch: ReadonlyArray<Waiting<A, E>>) {
    const exit = yield* Effect.exit(send(batch.map(({ refresh }) => refresh)))
    for (const [index, { answer }] of batch.entries()) {
      yield* Deferred.done(answer, Exit.map(exit, (answers) => answers[index]!))
    }
  })

  const flush = Effect.suspend(() => {
    const all = Array.from(next.values())
    next = new Map()
    const batches = Array.from(
      { length: Math.ceil(all.length / largestBatch) },
      (_, index) => all.slice(index * largestBatch, (index + 1) * largestBatch)
    )
    return Effect.forEach(batches, sendAll, { discard: true })
  })

  return Effect.fnUntraced(function*(refresh: Refresh) {
    const name = JSON.stringify([refresh.key, refresh.holderId])
    const active = Math.min(countRecent(name, refresh.ttlMillis), many)
    const answer = next.get(name)?.answer ?? Deferred.makeUnsafe<A, E>()
    next.set(name, { refresh, answer })
    if (next.size === 1) {
      const pause = active === 1 ? 0 : refresh.ttlMillis / 60 * active / many
      yield* Effect.forkDetach(Effect.delay(flush, Duration.millis(pause)))
    }
    return yield* Deferred.await(answer)
  })
}
