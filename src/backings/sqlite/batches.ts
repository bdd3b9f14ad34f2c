/**
 * Smart batching for a store that answers while it is called, or is busy: whatever is pending shares one step.
 *
 * What is asked for in one turn of the event loop goes together. What is asked for while the store is busy goes together in the next
 * attempt. What was interrupted before that is not done.
 */
import { Effect } from "effect"
import type { Exit } from "effect"

/** A step of more blocks the process, and others, for too long. */
export const most = 128

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
  let isUnderWay = false
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

  const attempt = () => {
    const entries = next()
    const exits = entries.length === 0 ? [] : perform(entries.map(({ operation }) => operation))
    if (exits === undefined) return again()
    attempts = 0
    for (const entry of entries) pending.delete(entry)
    isUnderWay = pending.size > 0
    if (isUnderWay) setImmediate(attempt)
    for (const [index, { resume }] of entries.entries()) resume(exits[index]!)
  }

  /** The longer the store is busy, the longer are the pauses. They do not keep the process alive, and differ between processes. */
  const again = () => {
    if (++attempts <= impatientAttempts) return void setImmediate(attempt)
    const pause = Math.min(2 ** (attempts - impatientAttempts - 1), longestPauseMillis)
    setTimeout(attempt, pause * (0.5 + Math.random() / 2)).unref()
  }

  return (operation) =>
    Effect.callback((resume) => {
      const entry = { operation, resume }
      pending.add(entry)
      if (!isUnderWay) {
        isUnderWay = true
        queueMicrotask(attempt)
      }
      return Effect.sync(() => void pending.delete(entry))
    })
}
