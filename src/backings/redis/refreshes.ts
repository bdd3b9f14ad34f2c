/** Puts many refreshes into few calls of one script. */
import * as Duration from "effect/Duration"
import type { RefreshRequest } from "../../core/Backing.ts"
import { escape } from "./names.ts"

export interface Call {
  /** One of the semaphores. */
  readonly semaphore: string
  readonly keys: Array<string>
  readonly requests: Array<string | number>
  /** The indices of its requests, in the order of the replies. */
  readonly indices: Array<number>
}

/** This many take the server a few milliseconds, during which it does nothing else. */
const mostPerCall = 200

/** Returns microseconds, at most 2^52: more than a century is for ever, and still exact in Lua. */
export const micros = (duration: Duration.Duration): number =>
  Math.min(Math.ceil(Duration.toMillis(duration) * 1000), 2 ** 52)

/** Puts the requests into as few calls as possible. All semaphores of a call are in one slot. */
export const callsOf = (
  requests: ReadonlyArray<RefreshRequest>,
  keyOf: (semaphore: string) => string,
  slotOf: (semaphore: string) => number
): ReadonlyArray<Call> => {
  const bySemaphore = new Map<string, Array<number>>()
  for (const [index, { key }] of requests.entries()) {
    const indices = bySemaphore.get(key)
    if (indices === undefined) bySemaphore.set(key, [index])
    else indices.push(index)
  }

  const calls: Array<Call> = []
  /** The last call of each slot. */
  const lastCalls = new Map<number, Call>()
  for (const [semaphore, indices] of bySemaphore) {
    const slot = slotOf(semaphore)
    for (let start = 0, end = 0; start < indices.length; start = end) {
      let call = lastCalls.get(slot)
      if (call === undefined || call.indices.length === mostPerCall) {
        call = { semaphore, keys: [], requests: [], indices: [] }
        lastCalls.set(slot, call)
        calls.push(call)
      }
      end = Math.min(indices.length, start + mostPerCall - call.indices.length)
      call.keys.push(keyOf(semaphore))
      call.requests.push(end - start)
      for (const index of indices.slice(start, end)) {
        const { fencingToken = "", holderId, ttl } = requests[index]!
        call.requests.push(escape(holderId), micros(ttl), String(fencingToken))
        call.indices.push(index)
      }
    }
  }
  return calls
}
