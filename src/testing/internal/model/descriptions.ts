/** Describes operations and answers for what a failed property prints. */
import * as Duration from "effect/Duration"
import type { SemaphoreState } from "../../../core/Backing.ts"
import { show } from "../assert.ts"
import type { Call, Contender, Expected, Operation, Span, Token } from "./model.ts"
import { holdersOf, waitersOf } from "./model.ts"

const millis = (nanos: bigint) => `${Number(nanos) / 1e6} ms`

/** Says when a call began and ended: without that, nobody can judge answers that depend on the time. */
export const describeSpan = ({ earliest, latest }: Span, start: bigint): string => {
  const since = (time: bigint) => `${(time - start) / 1_000_000n}`
  return `[${since(earliest)}–${since(latest)} ms]`
}

export const describeOperation = (operation: Operation): string => {
  const meant = "token" in operation && operation.token !== undefined ? ` of token ${operation.token}` : ""
  switch (operation._tag) {
    case "tryAcquire": {
      const { id, limit, permits, queue, ttl } = operation
      return `${show(id)} asks for ${permits} of ${limit} for ${millis(ttl)}${queue ? ", with queue" : ""}`
    }
    case "release":
      return `${show(operation.id)} releases ${operation.permits}${meant}`
    case "refresh":
      return `${show(operation.id)} refreshes${meant} for ${millis(operation.ttl)}`
    default:
      return operation._tag
  }
}

const entries = (state: SemaphoreState["holders"] | SemaphoreState["line"]) =>
  state.map(({ fencingToken, identifier, permits, remaining }) =>
    `${show(identifier)} ${permits} (token ${fencingToken}, ${Duration.format(remaining)} left)`
  ).join(", ") || "none"

export const describeAnswer = (answer: Call["answer"]): string => {
  if (typeof answer !== "object") return show(answer)
  if ("holders" in answer) return `holders ${entries(answer.holders)}; line ${entries(answer.line)}`
  return answer._tag === "Waiting"
    ? `waits at ${answer.position}, token ${answer.fencingToken}`
    : `acquired${describePermits(answer.permits)}, token ${answer.fencingToken}`
}

const describePermits = (fewer: number | undefined) => fewer === undefined ? "" : ` ${fewer}`

const describeToken = ({ _tag, value }: Token) =>
  _tag === "Known" ? `, token ${value}` : value < 0n ? "" : `, with a token above ${value}`

export const describeExpected = (expected: Expected): string => {
  switch (expected._tag) {
    case "Acquired":
      return expected.token._tag === "Known" && expected.token.value === undefined
        ? "true"
        : `acquired${describePermits(expected.permits)}${describeToken(expected.token)}`
    case "Waiting":
      return `waits at ${expected.position}${describeToken(expected.token)}`
    case "Refused":
      return "false"
    case "Number":
      return `${expected.permits}`
    case "State": {
      const list = (contenders: ReadonlyArray<Contender>) =>
        contenders.map(({ id, permits }) => `${show(id)} ${permits}`).join(", ") || "none"
      const { state } = expected
      return `holders ${list(holdersOf(state))}; line ${list(waitersOf(state))} (with tokens and times left)`
    }
  }
}
