/** Puts many refreshes into few calls of one script. */
import type { RefreshRequest } from "../../core/Backing.ts"
import { escape, keysOf } from "./names.ts"

interface Call {
  /** One of the semaphores. */
  readonly semaphore: string
  readonly keys: Array<string>
  readonly args: Array<string | number>
  /** Which of the requests, in the order of the replies. */
  readonly indices: Array<number>
}

/** As many requests take the server about a millisecond, during which it does nothing else. */
const requestsPerCall = 200

/**
 * The keys of a script must share a slot. On a single server all do. In a Cluster those of one semaphore do, and others hardly
 * ever: there are 16,384 slots.
 */
export const callsOf = (
  requests: ReadonlyArray<RefreshRequest>,
  options: {
    readonly keyPrefix: string
    readonly isCluster: boolean
    readonly micros: (ttl: RefreshRequest["ttl"]) => number
  }
): ReadonlyArray<Call> => {
  const bySemaphore = new Map<string, Array<number>>()
  for (const [index, { key }] of requests.entries()) {
    const indices = bySemaphore.get(key)
    if (indices === undefined) bySemaphore.set(key, [index])
    else indices.push(index)
  }

  const calls: Array<Call> = []
  let room = 0
  for (const [semaphore, indices] of bySemaphore) {
    if (options.isCluster) room = 0
    for (let start = 0, end = 0; start < indices.length; start = end) {
      if (room === 0) {
        calls.push({ semaphore, keys: [], args: [], indices: [] })
        room = requestsPerCall
      }
      end = Math.min(indices.length, start + room)
      room -= end - start
      const call = calls.at(-1)!
      call.keys.push(...keysOf(options.keyPrefix, semaphore))
      call.args.push(end - start)
      for (const index of indices.slice(start, end)) {
        const { fencingToken = "", holderId, ttl } = requests[index]!
        call.args.push(escape(holderId), options.micros(ttl), String(fencingToken))
        call.indices.push(index)
      }
    }
  }
  return calls
}
