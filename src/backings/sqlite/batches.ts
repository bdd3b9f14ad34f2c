/**
 * Smart batching for a store that answers synchronously, or is busy: all pending operations share one step.
 *
 * The first operations that are asked for in a turn of the event loop are done immediately. Those that follow in the same
 * turn, and those that are asked for while the store is busy, share the next attempt. One that is interrupted before
 * that is not done.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

/** The most operations in a step: more would block the process, and others, for too long. */
export const most = 128

/** How many operations of a turn are done immediately. A lone caller asks one by one, and gains nothing by waiting. */
const mostImmediate = 4

/** How often a busy store is tried again in the next turn. As a rule, it is not busy for longer than that. */
const impatientAttempts = 3

const longestPauseMillis = 10

interface Entry<Operation, A, E> {
  readonly operation: Operation
  readonly resume: (exit: Exit.Exit<A, E>) => void
}

/**
 * Returns a function that runs one operation, in a step with others. `perform` does a step, and answers in order, or
 * with `undefined` if the store is busy. It must not throw.
 */
export const make = <Operation extends { readonly size: number }, A, E>(
  perform: (operations: ReadonlyArray<Operation>) => ReadonlyArray<Exit.Exit<A, E>> | undefined
): (operation: Operation) => Effect.Effect<A, E> => {
  const pending = new Set<Entry<Operation, A, E>>()
  /** Whether an attempt is to come, in the next turn or after a pause. */
  let isToCome = false
  /** How many were done immediately in this turn. */
  let doneImmediately = 0
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

  /** Runs in a turn of its own. */
  const attempt = () => {
    isToCome = false
    doneImmediately = 0
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

  /**
   * Tries again. The longer the store is busy, the longer are the pauses. They are random, so that processes do not try
   * at the same time, and they do not keep the process alive.
   */
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
      if (pending.size === 1 && attempts === 0 && doneImmediately++ < mostImmediate) performNext()
      else attemptNextTurn()
      return Effect.sync(() => void pending.delete(entry))
    })
}
