/** Random operations: how they are drawn, and how they are done on a backing and recorded. */
import { Arbitrary, Duration, Effect, Schema } from "effect"
import type { DistributedSemaphoreBacking } from "../../../../../src/core/Backing.ts"
import { show } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { now } from "../subject.ts"
import type { Call, Expected, Operation, Precision, Span } from "./model.ts"

export const oneOf = <const A extends ReadonlyArray<string | number>>(...values: A): Arbitrary.Arbitrary<A[number]> =>
  Arbitrary.schema(Schema.Literals(values)) as Arbitrary.Arbitrary<A[number]>

/** Two of them would collide in the two keys of a run if key and identifier were joined by an underscore. */
export const ids = ["b_c", "c", "d", "e", "f"] as const

/** A plan of one step. Values are shares and indices, so that one plan suits every store. Repeated values weigh more. */
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
    "pass",
    "getCount",
    "inspect"
  ),
  key: oneOf(0, 0, 0, 1),
  id: oneOf(...ids),
  permits: oneOf(1, 1, 2, 3, 4),
  limit: oneOf(4, 4, 4, 6),
  /** Of the smallest ttl; 0 for one that does not end. */
  ttl: oneOf(0, 0, 1, 2),
  /** Of the smallest ttl, that pass; the granularity comes on top of more than one. */
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

/** Every holder of a backing without partial release always wants the same number, and gives up all of it. */
export const constantPermits: Record<Step["id"], Step["permits"]> = { b_c: 1, c: 2, d: 3, e: 1, f: 4 }

/** What a step does to its key, as far as the backing can; nothing if it only lets time pass. */
export const operationOf = ({ long, options, short }: Subject, step: Step): Operation | undefined => {
  const permits = options.has("partialRelease") ? step.permits : constantPermits[step.id]
  const ttl = Duration.toNanosUnsafe(step.ttl === 0 ? long : Duration.times(short, step.ttl))
  const { action, id, limit } = step
  switch (action) {
    case "queue":
    case "tryAcquire":
      return { _tag: "tryAcquire", id, permits, limit, ttl, queue: action === "queue" && options.has("queue") }
    case "release":
      return { _tag: "release", id, permits }
    case "refresh":
      return { _tag: "refresh", id, permits, limit, ttl }
    case "inspect":
      return { _tag: options.has("inspect") ? "inspect" : "getCount" }
    case "getCount":
      return { _tag: "getCount" }
    case "pass":
      return undefined
  }
}

/** Does an operation on a backing, and records it. */
export const call = (backing: DistributedSemaphoreBacking, key: string, operation: Operation) =>
  Effect.gen(function*() {
    const earliest = yield* now
    const answer = yield* perform(backing, key, operation)
    return { operation, answer, at: { earliest, latest: yield* now } } satisfies Call
  })

const perform = (backing: DistributedSemaphoreBacking, key: string, operation: Operation) => {
  switch (operation._tag) {
    case "tryAcquire": {
      const { id, limit, permits, queue, ttl } = operation
      return backing.tryAcquire(key, id, Duration.nanos(ttl), limit, permits, { queue })
    }
    case "release":
      return backing.release(key, operation.id, operation.permits)
    case "refresh":
      return backing.refresh(key, operation.id, Duration.nanos(operation.ttl), operation.limit, operation.permits)
    case "getCount":
      return backing.getCount(key, Duration.minutes(1))
    case "inspect":
      return backing.inspect!(key)
  }
}

/** Where time is real, clocks differ, and the span of a lease has some room. */
export const precisionOf = ({ options }: Subject): Precision => ({
  granularity: Duration.toNanosUnsafe(options.granularity),
  drift: options.virtualTime ? 0n : 1n
})

const millis = (nanos: bigint) => `${Number(nanos) / 1e6} ms`

/** When a call began and ended: answers that depend on the time can't be judged without. */
export const describeSpan = ({ earliest, latest }: Span, start: bigint): string => {
  const since = (time: bigint) => `${(time - start) / 1_000_000n}`
  return `[${since(earliest)}–${since(latest)} ms]`
}

export const describeOperation = (operation: Operation): string => {
  switch (operation._tag) {
    case "tryAcquire": {
      const { id, limit, permits, queue, ttl } = operation
      return `${show(id)} asks for ${permits} of ${limit} for ${millis(ttl)}${queue ? ", with queue" : ""}`
    }
    case "release":
      return `${show(operation.id)} releases ${operation.permits}`
    case "refresh":
      return `${show(operation.id)} refreshes for ${millis(operation.ttl)}`
    default:
      return operation._tag
  }
}

export const describeAnswer = (answer: Call["answer"]): string => {
  if (typeof answer !== "object") return show(answer)
  if ("holders" in answer) {
    const holders = answer.holders.map(({ fencingToken, identifier, permits, remaining }) =>
      `${show(identifier)} ${permits} (token ${fencingToken}, ${Duration.format(remaining)} left)`
    )
    return `holders ${holders.join(", ") || "none"}; line ${
      answer.line.map(({ identifier, permits, remaining }) =>
        `${show(identifier)} ${permits} (${Duration.format(remaining)} left)`
      ).join(", ") || "none"
    }`
  }
  return answer._tag === "Waiting" ? `waits at ${answer.position}` : `acquired, token ${answer.fencingToken}`
}

export const describeExpected = (expected: Expected): string => {
  switch (expected._tag) {
    case "Acquired":
      return expected.token === undefined ? "true" : `acquired, token ${expected.token}`
    case "AcquiredAnew":
      return expected.tokenAbove < 0n ? "acquired" : `acquired, with a token above ${expected.tokenAbove}`
    case "Waiting":
      return `waits at ${expected.position}`
    case "Refused":
      return "false"
    case "Number":
      return `${expected.permits}`
    case "State": {
      const list = (entries: ReadonlyArray<{ readonly id: string; readonly permits: number }>) =>
        entries.map(({ id, permits }) => `${show(id)} ${permits}`).join(", ") || "none"
      return `holders ${list(expected.state.holds)}; line ${list(expected.state.line)} (with tokens and times left)`
    }
  }
}
