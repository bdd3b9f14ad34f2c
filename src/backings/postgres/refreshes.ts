/**
 * Refreshes many holds by one statement.
 *
 * A refresh that comes alone is sent at once. Those that come soon after a batch wait together until the pause behind it is
 * over; the larger the batch was, the longer the pause. Nobody waits for more than a small part of its own ttl, because an
 * attempt has a time limit and a lease an end.
 */
import { Deferred, Effect, Exit } from "effect"

export interface Refresh {
  readonly key: string
  readonly holderId: string
  readonly ttlMillis: number
}

interface Waiting<A, E> {
  readonly refresh: Refresh
  readonly answer: Deferred.Deferred<A, E>
}

interface Batch<A, E> {
  /** By hold: those who refresh one hold at the same time share an answer, because one row is updated once. */
  readonly waiting: Map<string, Waiting<A, E>>
  /** When it is sent, if it is not full before. */
  due: number
}

/** At most this many keys per statement: the server's lock table is limited. */
const largestBatch = 200

/** Fifty refreshes a second, or more, reach the longest pause. */
const pauseMillisPerHold = 20
const longestPauseMillis = 200

/** A refresh waits for this part of its ttl at most. */
const partOfTtl = 1 / 60

export const make = <A, E>(
  /** Answers in the order of the refreshes. */
  send: (refreshes: ReadonlyArray<Refresh>) => Effect.Effect<ReadonlyArray<A>, E>
): (refresh: Refresh) => Effect.Effect<A, E> => {
  let next: Batch<A, E> | undefined
  /** When the pause behind the last batch is over. */
  let pauseEnd = 0

  /** Sends a batch, unless it has been sent. */
  const flush = Effect.fnUntraced(function*(batch: Batch<A, E>) {
    if (next !== batch) return
    next = undefined
    const all = Array.from(batch.waiting.values())
    pauseEnd = performance.now() + Math.min(all.length * pauseMillisPerHold, longestPauseMillis)
    const exit = yield* Effect.exit(send(all.map(({ refresh }) => refresh)))
    for (const [index, { answer }] of all.entries()) {
      yield* Deferred.done(answer, Exit.map(exit, (answers) => answers[index]!))
    }
  })

  return Effect.fnUntraced(function*(refresh: Refresh) {
    const now = performance.now()
    const due = Math.min(Math.max(now, pauseEnd), now + refresh.ttlMillis * partOfTtl)
    const batch: Batch<A, E> = next ??= { waiting: new Map(), due: Number.POSITIVE_INFINITY }
    const name = JSON.stringify([refresh.key, refresh.holderId])
    const answer = batch.waiting.get(name)?.answer ?? Deferred.makeUnsafe<A, E>()
    batch.waiting.set(name, { refresh, answer })
    if (batch.waiting.size === largestBatch) {
      yield* Effect.forkDetach(flush(batch), { startImmediately: true })
    } else if (due < batch.due) {
      batch.due = due
      // What is asked for in the same turn of the event loop joins it.
      yield* Effect.forkDetach(Effect.delay(flush(batch), due - now))
    }
    return yield* Deferred.await(answer)
  })
}
