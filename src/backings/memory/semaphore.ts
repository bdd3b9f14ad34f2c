/**
 * One semaphore in memory: the contract in its plainest form, without a store. Times are nanoseconds.
 *
 * An acquire, a release and a refresh take the same time with one contender and with ten thousand: the sums, the smallest limit,
 * the earliest expiry and the seats in the line are stored, and are determined anew only after a change that makes them
 * wrong.
 */

export interface Contender {
  readonly id: string
  readonly token: bigint
  permits: number
  limit: number
  expiry: bigint
  /** When it joined the line, in milliseconds of the wall clock. */
  readonly since: number
  /** Grows along the waiters: by one, unless a waiter left from the middle of the line. */
  seat: number
}

const never = 2n ** 63n

const min = (a: bigint, b: bigint) => a < b ? a : b

export class Semaphore {
  /** In the order of the line, ahead of the waiters. */
  readonly holders = new Map<string, Contender>()
  /** In the order of the line. */
  readonly waiters = new Map<string, Contender>()
  private held = 0
  /** The limits that holders asked with, and how many holders each has. Usually there is one. */
  private readonly limits = new Map<number, number>()
  /** No contender expires earlier. Maybe none expires at this time any more. */
  private earliestExpiry = never
  private earliestWasExtended = false
  private firstSeat = 0
  private nextSeat = 0
  private seatsHaveGaps = false
  private readonly granted: (token: bigint) => void

  constructor(granted: (token: bigint) => void) {
    this.granted = granted
  }

  get isEmpty(): boolean {
    return this.holders.size + this.waiters.size === 0
  }

  /** Removes what has expired, and grants what that leaves (B6). */
  expire(now: bigint): void {
    if (now < this.earliestExpiry) return
    for (const contenders of [this.holders, this.waiters]) {
      for (const contender of contenders.values()) if (contender.expiry <= now) this.remove(contender)
    }
    this.findEarliestExpiry()
    this.grant()
  }

  /** B1 to B3. */
  ask(
    request: Omit<Contender, "token" | "seat">,
    nextToken: () => bigint,
    queue: boolean
  ): Contender | undefined {
    const own = this.find(request.id)
    if (own?.permits === request.permits) {
      if (!queue && !this.holds(own)) return undefined
      const limit = Math.min(own.limit, request.limit)
      if (this.holds(own)) this.countLimits(own.limit, limit)
      own.limit = limit
      this.extend(own, request.expiry)
      return own
    }
    if (!queue && !this.fits(request, own)) return undefined
    if (own !== undefined) this.remove(own)
    const contender: Contender = { ...request, token: nextToken(), seat: this.nextSeat++ }
    this.waiters.set(contender.id, contender)
    this.earliestExpiry = min(this.earliestExpiry, contender.expiry)
    this.grant(contender)
    return contender
  }

  /** B4. */
  release(id: string, permits: number, token: bigint | undefined): number {
    const own = this.find(id, token)
    if (own === undefined) return 0
    const freed = this.holds(own) ? Math.min(own.permits, permits) : 0
    if (freed > 0 && freed < own.permits) {
      own.permits -= freed
      this.held -= freed
    } else {
      this.remove(own)
    }
    this.grant()
    return freed
  }

  find(id: string, token?: bigint): Contender | undefined {
    const own = this.holders.get(id) ?? this.waiters.get(id)
    return token === undefined || own?.token === token ? own : undefined
  }

  holds(contender: Contender): boolean {
    return this.holders.get(contender.id) === contender
  }

  extend(contender: Contender, expiry: bigint): void {
    if (contender.expiry === this.earliestExpiry) this.earliestWasExtended = true
    contender.expiry = expiry
    this.earliestExpiry = min(this.earliestExpiry, expiry)
  }

  /** Returns how many waiters are ahead. */
  position(waiter: Contender): number {
    if (this.seatsHaveGaps) {
      this.firstSeat = this.nextSeat = 0
      for (const other of this.waiters.values()) other.seat = this.nextSeat++
      this.seatsHaveGaps = false
    }
    return waiter.seat - this.firstSeat
  }

  /** Returns when to look if nothing is heard: no contender expires earlier. */
  nextExpiry(): bigint {
    if (this.earliestWasExtended) this.findEarliestExpiry()
    return this.earliestExpiry
  }

  private findEarliestExpiry(): void {
    this.earliestExpiry = never
    this.earliestWasExtended = false
    for (const contenders of [this.holders, this.waiters]) {
      for (const { expiry } of contenders.values()) this.earliestExpiry = min(this.earliestExpiry, expiry)
    }
  }

  /** Returns the smallest limit of the holders, or `limit` if that is smaller. */
  smallestLimit(limit: number): number {
    let smallest = limit
    for (const other of this.limits.keys()) smallest = Math.min(smallest, other)
    return smallest
  }

  private countLimits(before: number | undefined, after: number | undefined): void {
    if (after !== undefined) this.limits.set(after, (this.limits.get(after) ?? 0) + 1)
    if (before === undefined) return
    const count = this.limits.get(before)!
    if (count > 1) this.limits.set(before, count - 1)
    else this.limits.delete(before)
  }

  /** Returns whether a request fits behind everybody else, without what its contender has now. */
  private fits(request: Pick<Contender, "permits" | "limit">, own: Contender | undefined): boolean {
    if (own === undefined) {
      // If there is a waiter, it does not fit, and so no request behind it does.
      return this.waiters.size === 0 && this.held + request.permits <= this.smallestLimit(request.limit)
    }
    let { limit, permits: sum } = request
    for (const contenders of [this.holders, this.waiters]) {
      for (const other of contenders.values()) {
        if (other === own) continue
        sum += other.permits
        limit = Math.min(limit, other.limit)
        if (sum > limit) return false
      }
    }
    return sum <= limit
  }

  private remove(contender: Contender): void {
    if (this.holders.delete(contender.id)) {
      this.held -= contender.permits
      this.countLimits(contender.limit, undefined)
    } else if (this.waiters.delete(contender.id)) {
      if (contender.seat === this.firstSeat) this.firstSeat++
      else this.seatsHaveGaps = true
    }
  }

  /** Moves the border between holders and waiters. Notifies the waiters that it passes, except for the asker. */
  private grant(asker?: Contender): void {
    for (const waiter of this.waiters.values()) {
      if (this.held + waiter.permits > this.smallestLimit(waiter.limit)) return
      this.remove(waiter)
      this.holders.set(waiter.id, waiter)
      this.held += waiter.permits
      this.countLimits(undefined, waiter.limit)
      if (waiter !== asker) this.granted(waiter.token)
    }
  }
}
