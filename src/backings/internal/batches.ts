/**
 * Smart batching: few requests for many operations, without a pause. What arrives while a batch is under way goes together in the next
 * one; what arrives when none is goes at once, together with all else of this turn of the event loop.
 *
 * A batch whose store does not answer keeps the next one for a while only, and is interrupted when nobody waits for it any more.
 */
import { Cause, Context, Effect, Exit, Fiber } from "effect"

export interface Batches<Operation, Answer, E> {
  /**
   * Does some operations, at least one, maybe in several batches, and answers in order. When this is interrupted, what has not been sent is not
   * sent; the interruption ends when what has been sent has ended.
   */
  readonly submit: (operations: ReadonlyArray<Operation>) => Effect.Effect<ReadonlyArray<Answer>, E>
}

export interface Options<Operation, Answer, E> {
  /** Does some operations in one request. */
  readonly run: (operations: ReadonlyArray<Operation>) => Effect.Effect<ReadonlyArray<Answer>, E>
  /** Whether one of the operations may have failed all. Then the batch, of which nothing took effect, is repeated in halves. */
  readonly mayBeOfOne: (cause: Cause.Cause<E>) => boolean
  readonly mostPerBatch: number
  readonly mostUnderWay: number
  /** What batches run in. */
  readonly context: Context.Context<never>
}

/** A batch that takes longer no longer keeps others from being sent. */
const patienceMillis = 250

/** What was submitted together. */
interface Group<Answer, E> {
  readonly answers: Array<Answer>
  left: number
  /** The batches that some of it is in. */
  readonly batches: Set<Batch>
  /** Whether it has an answer, or nobody waits for that any more. */
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
  fiber: Fiber.Fiber<unknown> | undefined
}

export const make = <Operation, Answer, E>(
  { context, mayBeOfOne, mostPerBatch, mostUnderWay, run }: Options<Operation, Answer, E>
): Batches<Operation, Answer, E> => {
  let queue: Array<Entry<Operation, Answer, E>> = []
  let underWay = 0
  let isScheduled = false

  /** An exit for each of the operations. */
  const runAll = (operations: ReadonlyArray<Operation>): Effect.Effect<ReadonlyArray<Exit.Exit<Answer, E>>> =>
    Effect.matchCauseEffect(run(operations), {
      onSuccess: (answers) => Effect.succeed(answers.map((answer) => Exit.succeed(answer))),
      onFailure: (cause) => {
        const middle = operations.length >> 1
        return middle === 0 || !mayBeOfOne(cause)
          ? Effect.succeed<ReadonlyArray<Exit.Exit<Answer, E>>>(operations.map(() => Exit.failCause(cause)))
          : Effect.zipWith(
            runAll(operations.slice(0, middle)),
            runAll(operations.slice(middle)),
            (first, second) => [...first, ...second]
          )
      }
    })

  const end = (group: Group<Answer, E>, exit: Exit.Exit<ReadonlyArray<Answer>, E>) => {
    group.isOver = true
    group.resume(exit)
  }

  const send = (entries: ReadonlyArray<Entry<Operation, Answer, E>>) => {
    const batch: Batch = { groups: new Set(entries.map(({ group }) => group)), fiber: undefined }
    for (const { batches } of batch.groups) batches.add(batch)
    underWay++
    let isCounted = true
    const makeRoom = () => {
      if (!isCounted) return
      isCounted = false
      underWay--
      schedule()
    }
    const timer = setTimeout(makeRoom, patienceMillis)
    timer.unref()
    const fiber = batch.fiber = Effect.runForkWith(context)(runAll(entries.map(({ operation }) => operation)))
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      for (const { batches } of batch.groups) batches.delete(batch)
      for (const [position, { group, index }] of entries.entries()) {
        if (group.isOver) continue
        const answer = Exit.isSuccess(exit) ? exit.value[position]! : Exit.failCause(exit.cause)
        if (Exit.isFailure(answer)) {
          end(group, Exit.failCause(answer.cause))
        } else {
          group.answers[index] = answer.value
          if (--group.left === 0) end(group, Exit.succeed(group.answers))
        }
      }
      makeRoom()
    })
  }

  const flush = () => {
    isScheduled = false
    while (true) {
      if (underWay >= mostUnderWay) return
      const entries: typeof queue = []
      let taken = 0
      for (; taken < queue.length && entries.length < mostPerBatch; taken++) {
        if (!queue[taken]!.group.isOver) entries.push(queue[taken]!)
      }
      queue = taken === queue.length ? [] : queue.slice(taken)
      if (entries.length === 0) return
      send(entries)
    }
  }

  /** Later in this turn of the event loop: what others have to do meanwhile goes along. */
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
          const fibers = Array.from(group.batches, ({ fiber, groups }) => {
            if (Array.from(groups).every(({ isOver }) => isOver)) fiber!.interruptUnsafe()
            return fiber!
          })
          return fibers.length === 0 ? Effect.void : Fiber.awaitAll(fibers)
        })
      })
  }
}
