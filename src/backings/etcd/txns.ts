/**
 * Smart batching of txns, each about one semaphore: those that are asked for while others are under way share a call. A
 * call costs the client far more than a txn in it, and each call is a write to the server's disk.
 *
 * All that a call writes has the same revision, which is the place and the token of a contender. So a call has at most
 * one txn of each semaphore, besides those that only delete: where a permit goes round, each release shares a call with
 * the next acquire. All comparisons of a call see the state before it. Deletes come first, so what the call reads is the
 * state at its revision.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ITxnRequest, ITxnResponse } from "etcd3"

/** What a txn is about. */
export interface Subject {
  /** The folder of its semaphore. */
  readonly folder: string
  /** The contender that it changes, or the folder: etcd takes no call that deletes and puts the same key. */
  readonly contender: string
}

export interface Txn extends Subject {
  readonly request: ITxnRequest
  readonly onRepeat: (() => void) | undefined
}

interface Entry extends Txn {
  readonly resume: (exit: Exit.Exit<ITxnResponse, Error>) => void
}

/** Few enough that what they read stays below 4 MB, the most that the client takes in one answer. */
const mostPerCall = 16

/** While this many rounds of calls have no answer yet, the next round waits: for an answer, or for `patience`. */
const mostRounds = 4

/** Milliseconds. */
const patience = 250

const onlyDeletes = ({ request: { success } }: Txn): boolean => success!.every((op) => op.request_delete_range)

export const make = (
  call: (request: ITxnRequest, onRepeat: (() => void) | undefined) => Effect.Effect<ITxnResponse, Error>,
  /** Whether a single txn may have made the whole call fail. None has taken effect then, and each is sent alone. */
  mayBeOfOne: (error: Error) => boolean
): (txn: Txn) => Effect.Effect<ITxnResponse, Error> => {
  let queue: Array<Entry> = []
  let rounds = 0
  let next: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined

  const alone = ({ onRepeat, request, resume }: Entry) => Effect.map(Effect.exit(call(request, onRepeat)), resume)

  const together = (entries: ReadonlyArray<Entry>) =>
    Effect.flatMap(
      Effect.result(call(
        { success: entries.map(({ request }) => ({ request_txn: request })) },
        () => entries.forEach(({ onRepeat }) => onRepeat?.())
      )),
      (result) => {
        if (result._tag === "Failure" && mayBeOfOne(result.failure)) {
          return Effect.forEach(entries, alone, { concurrency: "unbounded", discard: true })
        }
        return Effect.sync(() => {
          for (const [index, { resume }] of entries.entries()) {
            if (result._tag === "Failure") resume(Exit.fail(result.failure))
            else {resume(
                Exit.succeed({ ...result.success.responses[index]!.response_txn, header: result.success.header })
              )}
          }
        })
      }
    )

  /** Sends all txns of the queue. */
  const flush = () => {
    clearTimeout(timer)
    next = timer = undefined
    const calls: Array<Array<Entry>> = []
    /** For each semaphore and each contender, the first call that has room for a txn of it. */
    const free = new Map<string, number>()
    for (const entry of queue) {
      const { contender, folder } = entry
      const isDelete = onlyDeletes(entry)
      const subjects = isDelete ? [contender] : [folder, contender]
      let index = Math.max(...subjects.map((subject) => free.get(subject) ?? 0))
      while (calls[index]?.length === mostPerCall) index++
      const entries = calls[index] ??= []
      if (isDelete) entries.unshift(entry)
      else entries.push(entry)
      for (const subject of subjects) free.set(subject, index + 1)
    }
    queue = []
    rounds++
    let isCounted = true
    const answered = () => {
      if (!isCounted) return
      isCounted = false
      rounds--
      schedule()
    }
    for (const entries of calls) {
      Effect.runFork(entries.length === 1 ? alone(entries[0]!) : together(entries)).addObserver(answered)
    }
  }

  /** Sends the queue at the end of this turn of the event loop, so that all that is asked for in it goes together. */
  const schedule = () => {
    if (queue.length === 0 || next !== undefined) return
    if (rounds < mostRounds) next = setImmediate(flush)
    else if (timer === undefined) timer = setTimeout(flush, patience).unref()
  }

  return (txn) =>
    Effect.callback((resume) => {
      const entry = { ...txn, resume }
      queue.push(entry)
      schedule()
      return Effect.sync(() => {
        queue = queue.filter((other) => other !== entry)
      })
    })
}
