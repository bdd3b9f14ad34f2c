/**
 * Bounds the server's clock from above, so that a request can say until when it may take effect (B12).
 *
 * A reply carries the server's time `T` at which its request ran, and that was sent at the local monotonic time `L`. It ran after
 * `L`, so at any local time `now` the server's clock is at most at `T + (now - L)`. This errs by as much as that request was
 * on its way, and only for the better of a request: it may take effect that much later, and never is refused too early.
 *
 * A clock of the server that is set forward, or one that runs faster, breaks the bound: a request is then refused although it
 * is in time. The refusal carries the time, too, so the next request is right again. The last reply counts, whatever it is.
 *
 * The nodes of a Cluster have clocks of their own, and a semaphore may move between them. So a bound belongs to a semaphore
 * there.
 */

export interface ServerTime {
  /** The server's time, at most, at a local time; `undefined` if nothing is known. Both in microseconds. */
  readonly at: (semaphore: string, local: number) => number | undefined
  /** Learns from a reply. */
  readonly learn: (semaphore: string, sent: number, serverTime: number) => void
}

/** The local monotonic time in microseconds, not by Effect's `Clock`: a test may stop that, but not the server's. */
export const localTime = (): number => performance.now() * 1000

/** About as many semaphores are remembered; of others, the time is asked again. */
const capacity = 10_000

export const make = (isCluster: boolean): ServerTime => {
  /** Server's time minus local time, the one learnt last at the end. */
  const offsets = new Map<string, number>()
  const clockOf = (semaphore: string) => isCluster ? semaphore : ""

  return {
    at: (semaphore, local) => {
      const offset = offsets.get(clockOf(semaphore))
      return offset === undefined ? undefined : Math.ceil(local + offset)
    },
    learn: (semaphore, sent, serverTime) => {
      const clock = clockOf(semaphore)
      offsets.delete(clock)
      offsets.set(clock, serverTime - sent)
      if (offsets.size > capacity) offsets.delete(offsets.keys().next().value!)
    }
  }
}
