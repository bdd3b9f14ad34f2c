/** Sends operations to PostgreSQL: those that are pending in this process share one statement, and so one commit. */
import type { PgClient } from "@effect/sql-pg"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { FencingToken } from "../../core/Backing.ts"
import { inBackground } from "../../core/internal/background.ts"
import * as Batches from "../internal/batches.ts"
import * as ServerTime from "../internal/serverTime.ts"
import { serverError } from "./errors.ts"
import { encode } from "./names.ts"

/** What the function `operate` takes. */
export interface Operation {
  readonly kind: "acquire" | "queue" | "release" | "revoke" | "refresh"
  readonly key: string
  readonly holderId: string
  readonly permits: number
  readonly limit: number
  readonly ttl: Duration.Duration
  readonly fencingToken: FencingToken | undefined
  /** The latest time of the server at which it may take effect, in microseconds; `undefined` if it always may. */
  readonly latest: number | undefined
}

/** What the function `operate` answers. */
export interface Answer {
  readonly answer: "acquired" | "waiting" | "refused" | "late" | "released" | "none" | "busy"
  /** A token, or how many permits were freed. */
  readonly number: bigint
  /** How many permits are held, if they are fewer than those of the request. */
  readonly fewer_permits: bigint | null
  readonly position: bigint
  /** Milliseconds. */
  readonly retry_after: bigint
  /** The limit that counts, if it is smaller than that of the request. */
  readonly smaller_limit: bigint | null
  /** The tokens of this process's waiters that it granted. */
  readonly granted: string | null
  readonly micros: bigint
}

/** This many take the server some milliseconds, during which it keeps their keys locked. */
const mostPerBatch = 200

/** The most statements that wait for locked keys at once: the pool has other work, too. */
const mostWaiting = 3

/** Returns whole milliseconds. More than a century is for ever. */
const millis = (ttl: Duration.Duration) => BigInt(Math.min(Math.ceil(Duration.toMillis(ttl)), 4e12))

/** Returns microseconds. More than a century is for ever. */
export const micros = (duration: Duration.Duration): number =>
  Math.min(Math.ceil(Duration.toMillis(duration) * 1000), 4e15)

/**
 * SQLSTATEs of data and of constraints: one operation can cause them, and the transaction had no effect. Any other
 * failure is that of all: a connection that broke may have lost the reply of a commit, and repetitions of a time-out
 * would wait again and again.
 */
const ofData = /^(22|23)[0-9A-Z]{3}$/

const mayBeOfOne = (cause: Cause.Cause<Error>) => {
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  return error !== undefined && "code" in error && typeof error.code === "string" && ofData.test(error.code)
}

export const make = Effect.fnUntraced(function*(
  client: PgClient.PgClient,
  schema: string,
  listener: string | undefined,
  owner: string,
  serverTime: ServerTime.ServerTime,
  /** Is called with what an operation on a key granted to this process's waiters, or `undefined` if such an answer may be lost. */
  notify: (key: string, tokens: string | undefined) => void
) {
  // All statements run apart from a transaction of the caller.
  const context = Context.omit(client.transactionService)(
    inBackground(yield* Effect.context<never>())
  ) as Context.Context<never>
  const encodedOwner = encode(owner)

  // Short, because the client looks it up in each call. What is bound is always of the same type.
  const statement = `select * from ${schema}.operate($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

  /** The keys of statements that have failed since the last one that was answered. */
  const unanswered = new Set<string>()

  /** Sends operations in the order of their keys, the same in all processes: so statements can't deadlock. */
  const run = (unordered: ReadonlyArray<Operation>, wait: boolean): Effect.Effect<ReadonlyArray<Answer>, Error> => {
    const entries = unordered.map((operation, index) => ({ operation, index, key: encode(operation.key) }))
    if (entries.length > 1) entries.sort((a, b) => a.key < b.key ? -1 : a.key > b.key ? 1 : 0)
    const sent = ServerTime.localTime()
    return client.unsafe<Answer>(statement, [
      entries.map(({ operation }) => operation.kind),
      entries.map(({ key }) => key),
      entries.map(({ operation }) => encode(operation.holderId)),
      entries.map(({ operation }) => BigInt(operation.permits)),
      entries.map(({ operation }) => BigInt(operation.limit)),
      entries.map(({ operation }) => millis(operation.ttl)),
      entries.map(({ operation }) => operation.fencingToken ?? 0n),
      entries.map(({ operation }) => BigInt(operation.latest ?? 0)),
      listener ?? null,
      encodedOwner,
      wait
    ]).withoutTransform.pipe(
      Effect.mapError(serverError),
      Effect.map((rows) => {
        serverTime.learn("", sent, Number(rows[0]!.micros))
        for (const key of unanswered) notify(key, undefined)
        unanswered.clear()
        const answers: Array<Answer> = []
        for (const [position, { index, operation: { key } }] of entries.entries()) {
          const row = answers[index] = rows[position]!
          if (row.granted) notify(key, row.granted)
        }
        return answers
      }),
      // It may have been committed.
      Effect.onError(() => Effect.sync(() => unordered.forEach(({ key }) => unanswered.add(key))))
    )
  }

  const makeBatches = (wait: boolean) =>
    Batches.make<Operation, Answer, Error>({
      run: (operations) => run(operations, wait),
      mayBeOfOne,
      mostPerBatch,
      ...(wait ? { mostUnderWay: mostWaiting, subjectOf: ({ key }) => key } : { mostUnderWay: 1 }),
      context
    })

  const batches = makeBatches(false)
  /** Refreshes are many at once, so they have their own batches: acquires and releases do not queue behind them. */
  const refreshes = makeBatches(false)
  /** For keys that somebody else has locked, each by itself, so that no key waits for another. */
  const waiting = makeBatches(true)

  /** The locked keys that are waited for, and how many submissions wait for each. */
  const waiters = new Map<string, number>()

  const submitWaiting = (key: string, operations: ReadonlyArray<Operation>) =>
    Effect.suspend(() => {
      waiters.set(key, (waiters.get(key) ?? 0) + 1)
      return Effect.ensuring(
        waiting.submit(operations),
        Effect.sync(() => {
          const others = waiters.get(key)! - 1
          if (others === 0) waiters.delete(key)
          else waiters.set(key, others)
        })
      )
    })

  /** Does operations, in order. No answer is `busy`. */
  const submit = (operations: ReadonlyArray<Operation>, attempt = 1): Effect.Effect<ReadonlyArray<Answer>, Error> =>
    Effect.suspend(() => {
      const [first] = operations
      if (first === undefined) return Effect.succeed([])
      if (operations.length === 1 && waiters.has(first.key)) return submitWaiting(first.key, operations)
      return Effect.flatMap((first.kind === "refresh" ? refreshes : batches).submit(operations), (answers) => {
        const busy: Array<number> = []
        for (const [index, { answer }] of answers.entries()) if (answer === "busy") busy.push(index)
        if (busy.length === 0) return Effect.succeed(answers)
        return Effect.map(submitBusy(busy.map((index) => operations[index]!), attempt), (later) => {
          const all = Array.from(answers)
          for (const [position, index] of busy.entries()) all[index] = later[position]!
          return all
        })
      })
    })

  const submitBusy = (operations: ReadonlyArray<Operation>, attempt: number) => {
    const ofKeys = new Map<string, Array<number>>()
    for (const [index, { key }] of operations.entries()) {
      const indices = ofKeys.get(key)
      if (indices === undefined) ofKeys.set(key, [index])
      else indices.push(index)
    }
    // Another process's batch has locked them, for some milliseconds. Many keys are cheaper together than each by
    // itself.
    if (attempt < 3 && ofKeys.size + waiters.size > mostWaiting) {
      return Effect.andThen(pause, submit(operations, attempt + 1))
    }
    const all: Array<Answer> = []
    return Effect.as(
      Effect.forEach(
        ofKeys,
        ([key, indices]) =>
          Effect.map(submitWaiting(key, indices.map((index) => operations[index]!)), (answers) => {
            for (const [position, index] of indices.entries()) all[index] = answers[position]!
          }),
        { concurrency: "unbounded", discard: true }
      ),
      all
    )
  }

  return { submit: (operations: ReadonlyArray<Operation>) => submit(operations) }
})

/** Waits ten milliseconds, whatever the caller's clock is. */
const pause = Effect.callback<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), 10)
  return Effect.sync(() => clearTimeout(timer))
})
