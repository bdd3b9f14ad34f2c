/**
 * Bounds a server's clock from above, so that a request can say until when it may take effect (B12).
 *
 * A reply carries the server's time `T` at which its request ran. That was sent at the local monotonic time `L`, and ran after it:
 * so at any local time `now` the server's clock is at most at `T + (now - L)`. This errs by as much as that request was on its
 * way: by so much later the next one may take effect. A reply that arrived at `R` also tells that the server's clock is at least at
 * `T + (now - R)`. So an earlier bound that lies between the two stays: a slow reply does not worsen it.
 *
 * A server's clock that is set forward breaks the bound, and a request is then refused although it is in time. The refusal carries
 * the time, too, so the next request is right again: a bound that does not agree with a reply is given up.
 *
 * Each node of a Cluster has a clock of its own. If a slot has moved to another node, what was learnt from that node counts.
 */
import { SemaphoreBackingError } from "../../core/Errors.ts"

export interface ServerTime {
  /** The time of a server, at most, at a local time; `undefined` if nothing is known. Both in microseconds. */
  readonly at: (server: string, local: number) => number | undefined
  /** Learns from a reply, which has arrived just now unless the local time of that is given. */
  readonly learn: (server: string, sent: number, time: number, received?: number) => void
}

/** What an acquire fails with that took too long to reach its server. */
export const lateError = (): SemaphoreBackingError =>
  new SemaphoreBackingError({
    operation: "tryAcquire",
    cause: new Error("The request reached the server later than it may take effect: it had no effect")
  })

/** The local monotonic time in microseconds, not by Effect's `Clock`: a test may stop that, but not the server's. */
export const localTime = (): number => performance.now() * 1000

export const make = (): ServerTime => {
  /** The time of each server minus the local time. */
  const offsets = new Map<string, number>()
  return {
    at: (server, local) => {
      const offset = offsets.get(server)
      return offset === undefined ? undefined : Math.ceil(local + offset)
    },
    learn: (server, sent, time, received = localTime()) => {
      const offset = offsets.get(server)
      if (offset === undefined || offset > time - sent || offset < time - received) offsets.set(server, time - sent)
    }
  }
}
