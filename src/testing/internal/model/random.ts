/** Random operations: how they are drawn, and how they are done on a backing and recorded. */
import * as Arbitrary from "effect/Arbitrary"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { DistributedSemaphoreBacking } from "../../../core/Backing.ts"
import { fail } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { now } from "../subject.ts"
import { tokenIn } from "./answers.ts"
import type { Call, Operation, Precision, Span } from "./model.ts"

export const oneOf = <const A extends ReadonlyArray<string | number>>(...values: A): Arbitrary.Arbitrary<A[number]> =>
  Arbitrary.schema(Schema.Literals(values)) as Arbitrary.Arbitrary<A[number]>

/** Two of them would collide in the two keys of a run if key and identifier were joined by an underscore. */
export const ids = ["b_c", "c", "d", "e", "f"] as const

/** A plan of one step. Its values are shares and indices, so that one plan suits every store. Repeated values are likelier. */
export const step = Arbitrary.all({
  action: oneOf(
    "queue",
    "queue",
    "queue",
    "release",
    "release",
    "tryAcquire",
    "tryAcquire",
    "refresh",
    "refreshAll",
    "pass",
    "getCount",
    "inspect"
  ),
  key: oneOf(0, 0, 0, 1),
  id: oneOf(...ids),
  permits: oneOf(1, 1, 2, 3, 4),
  limit: oneOf(4, 4, 4, 6),
  /** Which token a release or a refresh gives: none, the last one that the identifier was given, or the one before. */
  token: oneOf("none", "none", "last", "old"),
  /** In smallest ttls; 0 for one that does not end. */
  ttl: oneOf(0, 0, 1, 2),
  /** How long to wait, in smallest ttls. More than one comes with the granularity on top. */
  time: oneOf(0.4, 1.1, 2.2),
  process: oneOf(0, 1, 2)
})

export type Step = typeof step extends Arbitrary.Arbitrary<infer A> ? A : never

/** The two keys of a run. */
export const keysOf = (subject: Subject): readonly [string, string] => {
  const key = subject.freshKey()
  return [key, `${key}_b`]
}

export const processOf = ({ processes }: Subject, { process }: Step) => processes[process % processes.length]!

export const timeOf = ({ options, short }: Subject, { time }: Step): Duration.Duration =>
  Duration.sum(Duration.times(short, time), time > 1 ? options.granularity : Duration.zero)

/** Without partial release, each identifier always asks for the same number of permits, and releases all of them. */
const constantPermits: Record<Step["id"], number> = { b_c: 1, c: 2, d: 3, e: 1, f: 4 }

/** The limit for steps whose limits must not differ. */
export const sharedLimit = 4

/** An operation on one of the two keys. */
export interface Planned {
  readonly key: 0 | 1
  readonly operation: Operation
}

/** The tokens in the answers of a run. */
export interface Tokens {
  readonly remember: (key: 0 | 1, call: Call) => void
  /** Returns the tokens of an identifier, the oldest first. */
  readonly of: (key: 0 | 1, id: string) => ReadonlyArray<bigint>
}

export const makeTokens = (): Tokens => {
  const seen = new Map<string, ReadonlyArray<bigint>>()
  const of = (key: 0 | 1, id: string) => seen.get(`${key} ${id}`) ?? []
  return {
    of,
    remember: (key, { answer, operation }) => {
      const token = tokenIn(answer)
      if (token === undefined || !("id" in operation) || of(key, operation.id).includes(token)) return
      seen.set(`${key} ${operation.id}`, [...of(key, operation.id), token])
    }
  }
}

/** Returns the operations of a step, as far as the backing can do them: none if the step only lets time pass. */
export const operationsOf = (
  { long, options, short }: Subject,
  step: Step,
  tokens: Tokens
): ReadonlyArray<Planned> => {
  const permits = options.has("partialRelease") ? step.permits : constantPermits[step.id]
  const ttl = Duration.toNanosUnsafe(step.ttl === 0 ? long : Duration.times(short, step.ttl))
  const { action, id, key } = step
  // Without a line, only its own limit counts for a request.
  const limit = options.has("queue") ? step.limit : sharedLimit
  const tokenOf = (key: 0 | 1, id: string) =>
    step.token === "none" ? undefined : tokens.of(key, id).at(step.token === "last" ? -1 : -2)
  const refresh = (key: 0 | 1, id: string): Planned => ({
    key,
    operation: { _tag: "refresh", id, permits, limit, ttl, token: tokenOf(key, id) }
  })
  switch (action) {
    case "queue":
    case "tryAcquire": {
      const queue = action === "queue" && options.has("queue")
      return [{ key, operation: { _tag: "tryAcquire", id, permits, limit, ttl, queue } }]
    }
    case "release":
      return [{ key, operation: { _tag: "release", id, permits, token: tokenOf(key, id) } }]
    case "refresh":
      return [refresh(key, id)]
    case "refreshAll":
      return [
        refresh(key, id),
        refresh(key, ids[(ids.indexOf(id) + 1) % ids.length]!),
        refresh(key === 0 ? 1 : 0, id)
      ]
    case "inspect":
      return [{ key, operation: { _tag: options.has("inspect") ? "inspect" : "getCount" } }]
    case "getCount":
      return [{ key, operation: { _tag: "getCount" } }]
    case "pass":
      return []
  }
}

/** Does the operations of a step on a backing, and records them. */
export const calls = (
  backing: DistributedSemaphoreBacking,
  keys: readonly [string, string],
  planned: ReadonlyArray<Planned>
) =>
  Effect.gen(function*() {
    const earliest = yield* now
    const answers: ReadonlyArray<Call["answer"]> = planned.length > 1 && backing.refreshAll !== undefined
      ? yield* backing.refreshAll(planned.map((one) => requestOf(keys, one)))
      : yield* Effect.forEach(planned, ({ key, operation }) => perform(backing, keys[key], operation))
    const at: Span = { earliest, latest: yield* now }
    if (answers.length !== planned.length) {
      return fail(`refreshAll: ${answers.length} answers to ${planned.length} requests`)
    }
    return planned.map(({ key, operation }, index) => ({
      key,
      call: { operation, answer: answers[index]!, at } satisfies Call as Call
    }))
  })

const requestOf = (keys: readonly [string, string], { key, operation }: Planned) => {
  const { id, limit, permits, token, ttl } = operation as Extract<Operation, { readonly _tag: "refresh" }>
  return { key: keys[key], holderId: id, ttl: Duration.nanos(ttl), limit, permits, fencingToken: token as never }
}

const perform = (
  backing: DistributedSemaphoreBacking,
  key: string,
  operation: Operation
): Effect.Effect<Call["answer"], unknown> => {
  switch (operation._tag) {
    case "tryAcquire": {
      const { id, limit, permits, queue, ttl } = operation
      return backing.tryAcquire(key, id, Duration.nanos(ttl), limit, permits, { queue })
    }
    case "release":
      return backing.release(key, operation.id, operation.permits, { fencingToken: operation.token as never })
    case "refresh": {
      const { id, limit, permits, token, ttl } = operation
      return backing.refresh(key, id, Duration.nanos(ttl), limit, permits, { fencingToken: token as never })
    }
    case "getCount":
      return backing.getCount(key, Duration.minutes(1))
    case "inspect":
      return backing.inspect!(key)
  }
}

/** Returns how exactly leases end. In real time the store's clock and ours differ, so the span gets some room. */
export const precisionOf = ({ options }: Subject): Precision => ({
  granularity: Duration.toNanosUnsafe(options.granularity),
  drift: options.virtualTime ? 0n : 1n
})
