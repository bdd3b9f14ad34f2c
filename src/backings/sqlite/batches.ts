/**
 * Smart batching for a store that answers while it is called, or is busy: whatever is pending shares one step.
 *
 * The first that are asked for in a turn of the event loop are done at once. What follows in the same turn, and what is asked for
 * while the store is busy, goes together in the next attempt. What was interrupted before that is not done.
 */
import { Effect } from "effect"
import type { Exit } from "effect"

/** A step of more blocks the process, and others, for too long. */
export const most = 128

/** So many are done at once: a caller alone does one thing after another, and gains nothing by waiting for others. */
const mostAtOnce = 4

/** The store is busy for less than that, as a rule: so often it is asked again at once. */
const impatientAttempts = 3

const longestPauseMillis = 10

interface Entry<Operation, A, E> {
  readonly operation: Operation
  readonly resume: (exit: Exit.Exit<A, E>) => void
}

/**
 * Runs operations, of which each has a size, by a function that performs many at once, and answers in order, or with `undefined` if
 * the store is busy. It must not throw.
 */
export const make = <Operation extends { readonly size: number }, A, E>(
  perform: (operations: ReadonlyArray<Operation>) => ReadonlyArray<Exit.Exit<A, E>> | undefined
): (operation: Operation) => Effect.Effect<A, E> => {
  const pending = new Set<Entry<Operation, A, E>>()
  /** Whether an attempt is to come, in the next turn or after a pause. */
  let isToCome = false
  /** How many were done at once in this turn. */
  let doneAtOnce = 0
  let attempts = 0

  const next = () => {
    const entries: Array<Entry<Operation, A, E>> = []
    let size = 0
    for (const entry of pending) {
      size += entry.operation.size
      if (size > most && entries.length > 0) break
      entries.push(entry)
    }
    return entries
  }

  /** In a turn of its own. */
  const attempt = () => {
    isToCome = false
    doneAtOnce = 0
    if (pending.size > 0) performNext()
    else attempts = 0
  }

  const performNext = () => {
    const entries = next()
    const exits = perform(entries.map(({ operation }) => operation))
    if (exits === undefined) return again()
    attempts = 0
    for (const entry of entries) pending.delete(entry)
    attemptNextTurn()
    for (const [index, { resume }] of entries.entries()) resume(exits[index]!)
  }

  const attemptNextTurn = () => {
    if (isToCome) return
    isToCome = true
    setImmediate(attempt)
  }

  /** The longer the store is busy, the longer are the pauses. They do not keep the process alive, and differ between processes. */
  const again = () => {
    if (++attempts <= impatientAttempts) return attemptNextTurn()
    isToCome = true
    const pause = Math.min(2 ** (attempts - impatientAttempts - 1), longestPauseMillis)
    setTimeout(attempt, pause * (0.5 + Math.random() / 2)).unref()
  }

  return (operation) =>
    Effect.callback((resume) => {
      const entry = { operation, resume }
      pending.add(entry)
      if (pending.size === 1 && attempts === 0 && doneAtOnce++ < mostAtOnce) performNext()
      else attemptNextTurn()
      return Effect.sync(() => void pending.delete(entry))
    })
}
