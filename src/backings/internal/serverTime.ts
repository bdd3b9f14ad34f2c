/**
 * Bounds a server's clock from above, so that a request can say until when it may take effect (B12).
 *
 * A reply carries the server's time `T` at which its request ran. The request was sent at the local monotonic time `L`,
 * and ran after that: so at a local time `now`, the server's clock shows at most `T + (now - L)`. This is too much by
 * the time that the request was on its way, so the next request may take effect that much later. If the reply arrived
 * at `R`, the server's clock shows at least `T + (now - R)`. An earlier bound that lies between the two stays: a slow
 * reply does not worsen it.
 *
 * If a server's clock is set forward, the bound is wrong, and a request is refused although it is in time. The refusal
 * carries the time, too, so the next request is right again: a reply that does not agree with the bound replaces it.
 *
 * Each node of a Cluster has a clock of its own. After a slot has moved to another node, what was learnt from that node
 * counts.
 */
import { SemaphoreBackingError } from "../../core/Errors.ts"

export interface ServerTime {
  /**
   * Returns the latest time that a server's clock can show at a local time, if anything is known. Both in microseconds.
   */
  readonly at: (server: string, local: number) => number | undefined
  /** Learns from a reply, which arrived just now, or at the local time `received`. */
  readonly learn: (server: string, sent: number, time: number, received?: number) => void
}

/** Returns the error for an acquire that took too long to reach its server. */
export const lateError = (): SemaphoreBackingError =>
  new SemaphoreBackingError({
    operation: "tryAcquire",
    cause: new Error("The request reached the server too late, and had no effect")
  })

/**
 * Returns the local monotonic time in microseconds. Not by Effect's `Clock`, because a test may stop that, but not the
 * server's.
 */
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
