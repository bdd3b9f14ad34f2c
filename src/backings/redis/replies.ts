/** What the scripts reply, and what it means. A reply is text, and begins with the server's time in microseconds. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type { Acquired, RefreshRequest, Revocation, SemaphoreState, Waiting } from "../../core/Backing.ts"
import { FencingToken } from "../../core/Backing.ts"
import { escape, unescape } from "./names.ts"

/** Greater numbers count as this many, so that the sums of a semaphore stay in their range of scores. */
export const mostPermits = 2 ** 52 - 1

export type Answer = false | Acquired | Waiting

export type Reply = readonly [time: string, ...ReadonlyArray<unknown>]

export type ContenderReply = readonly [
  answer: string,
  token?: string,
  limit?: string,
  /** How many permits are held, or how many waiters are ahead. Absent if all is as the request says. */
  count?: string,
  retryAfter?: string
]

type ContenderState = readonly [id: string, permits: string, token: string, micros: string, process: string]

export type InspectReply = readonly [
  time: string,
  holderCount: string,
  waiterCount: string,
  holders: ReadonlyArray<ContenderState>,
  line: ReadonlyArray<ContenderState>
]

/** Returns a number if it is smaller than the one that was asked for. */
const ifSmaller = (text: string | undefined, asked: number) => Number(text) < asked ? Number(text) : undefined

/** `retryAfter` is given only if the channel stood at the request and still stands: otherwise a grant may be missed. */
export const answerOf = (
  reply: ContenderReply,
  asked: Pick<RefreshRequest, "limit" | "permits">,
  stood: () => boolean
): Answer => {
  const [answer, number = "", smallest, count, retryAfter] = reply
  const limit = ifSmaller(smallest, Math.min(asked.limit, mostPermits))
  switch (answer) {
    case "acquired":
      return {
        _tag: "Acquired",
        fencingToken: tokenOf(number),
        permits: ifSmaller(count, Math.min(asked.permits, mostPermits)),
        limit
      }
    case "waiting":
      return {
        _tag: "Waiting",
        fencingToken: tokenOf(number),
        position: Number(count),
        retryAfter: stood() ? Duration.millis(Math.ceil(Number(retryAfter) / 1000)) : undefined,
        limit
      }
    default:
      return false
  }
}

export const stateOf = ([, holderCount, waiterCount, holders, line]: InspectReply): SemaphoreState => ({
  holders: holders.map(contenderOf),
  line: line.map(contenderOf),
  holderCount: Number(holderCount),
  waiterCount: Number(waiterCount)
})

const contenderOf = ([id, permits, number, micros, process]: ContenderState) => {
  const fencingToken = tokenOf(number)
  return {
    identifier: unescape(id),
    permits: Number(permits),
    fencingToken,
    remaining: Duration.micros(BigInt(micros)),
    owner: unescape(process.slice(process.indexOf(":") + 1)),
    since: DateTime.makeUnsafe(Number(fencingToken / 1000n))
  }
}

const tokenOf = (text: string) => FencingToken(BigInt(text))

/** Returns the tokens in a message, or `undefined` as the only event when the channel begins to stand. */
export const grantsOf = (message: string | undefined): ReadonlyArray<void | FencingToken> =>
  message === undefined ? [undefined] : (message.match(/\d+/g) ?? []).map(tokenOf)

export const revocationMessage = (key: string, holderId: string): string => `${escape(key)}\n${escape(holderId)}`

export const revocationsOf = (message: string | undefined): ReadonlyArray<Revocation> => {
  const [key, holderId] = (message ?? "").split("\n").map(unescape)
  return key !== undefined && holderId !== undefined ? [{ key, holderId }] : []
}
