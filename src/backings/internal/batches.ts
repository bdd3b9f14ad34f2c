/**
 * Smart batching: few requests for many operations, without a pause. Operations that arrive while a batch is under way
 * share the next one. Operations that arrive when none is under way go at once, together with all others of this turn
 * of the event loop.
 *
 * A batch that the store does not answer holds up the next one for a while only. It is interrupted when nobody waits
 * for it any more, and then holds up no other, even if its interruption takes long.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { shield } from "../../core/internal/shield.ts"

export interface Batches<Operation, Answer, E> {
  /**
   * Does one or more operations, maybe in several batches, and answers in order. After an interruption, no more of them
   * is sent or repeated. The interruption ends when the batches that were sent have ended.
   */
  readonly submit: (operations: ReadonlyArray<Operation>) => Effect.Effect<ReadonlyArray<Answer>, E>
}

export interface Options<Operation, Answer, E> {
  /** Does some operations in one request. */
  readonly run: (operations: ReadonlyArray<Operation>) => Effect.Effect<ReadonlyArray<Answer>, E>
  /**
   * Whether a single operation may have made the batch fail. Nothing of it has taken effect then: it is repeated in
   * halves.
   */
  readonly mayBeOfOne: (cause: Cause.Cause<E>) => boolean
  readonly mostPerBatch: number
  readonly mostUnderWay: number
  /**
   * Returns what an operation is about. Operations with different subjects never share a batch, and each subject has
   * only one batch under way, however long it waits in the store, as for a lock.
   */
  readonly subjectOf?: (operation: Operation) => string
  /** The context in which batches run. */
  readonly context: Context.Context<never>
}

/** A batch that takes longer than this does not hold up others any more. */
const patienceMillis = 250

/** The operations of one `submit`. */
interface Group<Answer, E> {
  readonly answers: Array<Answer>
  left: number
  /** The batches that have operations of it. */
  readonly batches: Set<Batch>
  /** Whether it has its answer, or nobody waits for that any more. */
  isOver: boolean
  readonly resume: (exit: Exit.Exit<ReadonlyArray<Answer>, E>) => void
}

interface Entry<Operation, Answer, E> {
  readonly operation: Operation
  readonly group: Group<Answer, E>
  readonly index: number
}

interface Batch {
  readonly groups: Set<Group<any, any>>
  /** Lets the next batch go. */
  readonly makeRoom: () => void
  fiber: Fiber.Fiber<unknown> | undefined
}

export const make = <Operation, Answer, E>(
  { context, mayBeOfOne, mostPerBatch, mostUnderWay, run, subjectOf }: Options<Operation, Answer, E>
): Batches<Operation, Answer, E> => {
  type Entries = ReadonlyArray<Entry<Operation, Answer, E>>
  let queue: Array<Entry<Operation, Answer, E>> = []
  let underWay = 0
  const subjects = new Set<string>()
  let isScheduled = false

  const end = (group: Group<Answer, E>, exit: Exit.Exit<ReadonlyArray<Answer>, E>) => {
    if (group.isOver) return
    group.isOver = true
    shield(() => group.resume(exit))
  }

  const runAll = (entries: Entries): Effect.Effect<void> =>
    Effect.matchCauseEffect(run(entries.map(({ operation }) => operation)), {
      onSuccess: (answers) => {
        for (const [position, { group, index }] of entries.entries()) {
          group.answers[index] = answers[position]!
          if (--group.left === 0) end(group, Exit.succeed(group.answers))
        }
        return Effect.void
      },
      onFailure: (cause) => {
        const middle = entries.length >> 1
        if (middle > 0 && mayBeOfOne(cause)) {
          return Effect.andThen(runWanted(entries.slice(0, middle)), runWanted(entries.slice(middle)))
        }
        for (const { group } of entries) end(group, Exit.failCause(cause))
        return Effect.void
      }
    })

  /** Does the operations that somebody still waits for. */
  const runWanted = (entries: Entries): Effect.Effect<void> =>
    Effect.suspend(() => {
      const wanted = entries.filter(({ group }) => !group.isOver)
      return wanted.length === 0 ? Effect.void : runAll(wanted)
    })

  const send = (entries: Entries) => {
    const subject = subjectOf?.(entries[0]!.operation)
    if (subject !== undefined) subjects.add(subject)
    underWay++
    let isCounted = true
    const makeRoom = () => {
      if (!isCounted) return
      isCounted = false
      underWay--
      if (subject !== undefined) subjects.delete(subject)
      schedule()
    }
    const batch: Batch = { groups: new Set(entries.map(({ group }) => group)), makeRoom, fiber: undefined }
    for (const { batches } of batch.groups) batches.add(batch)
    const timer = subject === undefined ? setTimeout(makeRoom, patienceMillis) : undefined
    timer?.unref()
    const fiber = batch.fiber = Effect.runForkWith(context)(runWanted(entries))
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      for (const { batches } of batch.groups) batches.delete(batch)
      if (Exit.isFailure(exit)) { for (const { group } of entries) end(group, Exit.failCause(exit.cause)) }
      makeRoom()
    })
  }

  /** Takes the next batch from the queue, and drops what nobody waits for any more. */
  const take = () => {
    const entries: typeof queue = []
    let subject: string | undefined
    let rest: typeof queue = []
    for (const [position, entry] of queue.entries()) {
      if (entries.length === mostPerBatch) {
        rest = rest.concat(queue.slice(position))
        break
      }
      if (entry.group.isOver) continue
      const own = subjectOf?.(entry.operation)
      if (own !== undefined && (subjects.has(own) || entries.length > 0 && own !== subject)) {
        rest.push(entry)
      } else {
        entries.push(entry)
        subject = own
      }
    }
    queue = rest
    return entries
  }

  const flush = () => {
    isScheduled = false
    while (true) {
      if (underWay >= mostUnderWay) return
      const entries = take()
      if (entries.length === 0) return
      send(entries)
    }
  }

  /** Sends the queue at the end of this turn of the event loop, so that all that is asked for in it goes together. */
  const schedule = () => {
    if (isScheduled || queue.length === 0 || underWay >= mostUnderWay) return
    isScheduled = true
    setImmediate(flush)
  }

  return {
    submit: (operations) =>
      Effect.callback((resume) => {
        const group: Group<Answer, E> = {
          answers: [],
          left: operations.length,
          batches: new Set(),
          isOver: false,
          resume
        }
        for (const [index, operation] of operations.entries()) queue.push({ operation, group, index })
        schedule()
        return Effect.suspend(() => {
          group.isOver = true
          const fibers = Array.from(group.batches, ({ fiber, groups, makeRoom }) => {
            if (Array.from(groups).every(({ isOver }) => isOver)) {
              fiber!.interruptUnsafe()
              makeRoom()
            }
            return fiber!
          })
          return fibers.length === 0 ? Effect.void : Fiber.awaitAll(fibers)
        })
      })
  }
}
