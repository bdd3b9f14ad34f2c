/**
 * A semaphore at one revision of the store: its line, and which contenders hold (B2). Applying an event takes the same
 * time with one contender and with ten thousand.
 */
import type { IEvent, IKeyValue } from "etcd3"
import type { SemaphoreNames, Slot } from "./names.ts"
import { parse } from "./names.ts"

export interface Contender {
  readonly identifier: string
  readonly slot: Slot
  /** Its `create_revision`. */
  readonly token: bigint
  /** Its `mod_revision`. */
  modified: bigint
  lease: string
  permits: number
  limit: number
  /** Whole seconds. */
  ttl: number
  /**
   * If the contender has asked again with a smaller limit: the token of the last holder at that time, otherwise 0.
   * Holders up to it keep their holds, even if they hold more than that limit together.
   */
  border: bigint
  /** The process that asked last. */
  owner: string
  holds: boolean
  /** Grows along the waiters: by one, unless a waiter left from the middle of the line. */
  seat: number
}

/** What the value of a key says. */
export type Value = Pick<Contender, "permits" | "ttl" | "limit" | "border" | "owner">

export const encode = ({ border, limit, owner, permits, ttl }: Value): Buffer =>
  Buffer.from(`${permits} ${ttl} ${limit} ${border} ${owner}`)

const decode = (value: Buffer): Value | undefined => {
  const [, permits, ttl, limit, border, owner] =
    /^(\d{1,16}) (\d{1,16}) (\d{1,16}) (\d{1,19}) (.*)$/s.exec(value.toString()) ?? []
  if (permits === undefined) return undefined
  return { permits: Number(permits), ttl: Number(ttl), limit: Number(limit), border: BigInt(border!), owner: owner! }
}

/** Counts how often each number occurs. */
class Counts extends Map<number, number> {
  add(number: number, count: 1 | -1): void {
    const sum = (this.get(number) ?? 0) + count
    if (sum > 0) this.set(number, sum)
    else this.delete(number)
  }
  least(bound: number): number {
    let least = bound
    for (const number of this.keys()) least = Math.min(least, number)
    return least
  }
}

export class View {
  /** The view shows everything that happened up to this revision. */
  revision: bigint
  /** By identifier, in the order of the line. The waiters come after them. */
  readonly holders = new Map<string, Contender>()
  readonly waiters = new Map<string, Contender>()
  /** The sum of the holders' permits. */
  held = 0
  private readonly names: SemaphoreNames
  /** Keys within the semaphore that are not ours. `size` counts them, because the store does. */
  private readonly others = new Set<string>()
  /** The limits of the holders. */
  private readonly limits = new Counts()
  /** The ttls of all contenders. */
  private readonly ttls = new Counts()
  private border = 0n
  private firstSeat = 0
  private nextSeat = 0
  private seatsHaveGaps = false

  /** Takes all keys of the semaphore, in any order. */
  constructor(names: SemaphoreNames, revision: bigint, kvs: ReadonlyArray<IKeyValue>) {
    this.names = names
    this.revision = revision
    const created = kvs.map((kv) => [BigInt(kv.create_revision), kv] as const)
    for (const [, kv] of created.toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)) this.put(kv)
    this.grant()
  }

  /** The number of keys that the semaphore has in the store. */
  get size(): number {
    return this.holders.size + this.waiters.size + this.others.size
  }

  find(identifier: string): Contender | undefined {
    return this.holders.get(identifier) ?? this.waiters.get(identifier)
  }

  /**
   * Applies events, in the order of their revisions. Returns the contenders that were granted and still hold. Events of
   * one revision happen at once: a waiter that vanishes together with the one ahead of it is never granted.
   */
  apply(events: ReadonlyArray<IEvent>): ReadonlyArray<Contender> {
    const granted = events.flatMap(({ kv, type }, index) => {
      if (type === "Put") this.put(kv)
      else this.remove(kv.key)
      if (events[index + 1]?.kv.mod_revision === kv.mod_revision) return []
      this.revision = BigInt(kv.mod_revision)
      return this.grant()
    })
    return granted.filter((one) => this.find(one.identifier) === one)
  }

  /** Returns how many waiters are ahead of this one. */
  position(waiter: Contender): number {
    if (this.seatsHaveGaps) {
      this.firstSeat = this.nextSeat = 0
      for (const other of this.waiters.values()) other.seat = this.nextSeat++
      this.seatsHaveGaps = false
    }
    return waiter.seat - this.firstSeat
  }

  /** Returns the smallest limit that a holder asked with, or `bound` if that is smaller. */
  leastLimit(bound: number): number {
    return this.limits.least(bound)
  }

  /** Returns the shortest ttl of all contenders, or `bound` if that is shorter. */
  leastTtl(bound: number): number {
    return this.ttls.least(bound)
  }

  /** Returns whether a request would hold at the end of the line, once its contender has given up what it has now. */
  fits(identifier: string, permits: number, limit: number): boolean {
    const own = this.find(identifier)
    // If there is a waiter, it does not fit, and so no request behind it does.
    if (own === undefined) return this.waiters.size === 0 && this.held + permits <= this.limits.least(limit)
    let sum = permits
    let least = limit
    for (const contenders of [this.holders, this.waiters]) {
      for (const other of contenders.values()) {
        if (other === own) continue
        sum += other.permits
        least = Math.min(least, other.limit)
      }
    }
    return sum <= least
  }

  private put(kv: IKeyValue): void {
    const name = parse(this.names, kv.key)
    const value = decode(kv.value)
    if (name === undefined || value === undefined) {
      this.others.add(kv.key.toString())
      return
    }
    const { border, limit, permits, ttl } = value
    if (border > this.border) this.border = border
    const token = BigInt(kv.create_revision)
    const modified = BigInt(kv.mod_revision)
    const own = this.find(name.identifier)
    if (own?.token === token) {
      if (own.holds) {
        this.held += permits - own.permits
        this.limits.add(own.limit, -1)
        this.limits.add(limit, 1)
      }
      this.ttls.add(own.ttl, -1)
      Object.assign(own, { ...value, modified, lease: kv.lease })
    } else {
      if (own !== undefined) this.drop(own)
      const seat = this.nextSeat++
      const contender = { ...name, ...value, token, modified, lease: kv.lease, holds: false, seat }
      this.waiters.set(name.identifier, contender)
    }
    this.ttls.add(ttl, 1)
  }

  private remove(key: Buffer): void {
    if (this.others.size > 0 && this.others.delete(key.toString())) return
    const name = parse(this.names, key)
    const own = name && this.find(name.identifier)
    // A contender that asked for another number is known by its new name already.
    if (own?.slot === name?.slot && own !== undefined) this.drop(own)
  }

  private drop(contender: Contender): void {
    this.ttls.add(contender.ttl, -1)
    if (contender.holds) {
      this.holders.delete(contender.identifier)
      this.held -= contender.permits
      this.limits.add(contender.limit, -1)
    } else {
      this.waiters.delete(contender.identifier)
      if (contender.seat === this.firstSeat) this.firstSeat++
      else this.seatsHaveGaps = true
    }
  }

  /** Moves the border between holders and waiters (B2). Returns the contenders that it passes. */
  private grant(): Array<Contender> {
    const granted: Array<Contender> = []
    for (const waiter of this.waiters.values()) {
      const fits = this.held + waiter.permits <= this.limits.least(waiter.limit)
      if (!fits && waiter.token > this.border) break
      this.waiters.delete(waiter.identifier)
      if (waiter.seat === this.firstSeat) this.firstSeat++
      else this.seatsHaveGaps = true
      waiter.holds = true
      this.holders.set(waiter.identifier, waiter)
      this.held += waiter.permits
      this.limits.add(waiter.limit, 1)
      granted.push(waiter)
    }
    return granted
  }
}
