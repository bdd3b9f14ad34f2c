/**
 * A semaphore as it was at one revision of the store: the line, and who holds by B2. An event costs the same with one contender
 * and with ten thousand.
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
   * Of one that asked again with a smaller limit: the last that held then. Those up to it keep their holds, although their sum may
   * be more than that limit.
   */
  border: bigint
  /** The process that asked last. */
  owner: string
  holds: boolean
  /** Rises along the waiters. Without gaps, unless somebody left the line from its middle. */
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

/** How many have each number. */
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
  /** All that happened until then is seen. */
  revision: bigint
  /** In the order of the line, ahead of the waiters; by identifier. */
  readonly holders = new Map<string, Contender>()
  readonly waiters = new Map<string, Contender>()
  /** Permits of the holders. */
  held = 0
  private readonly names: SemaphoreNames
  /** Names that somebody else has put there. */
  private readonly others = new Set<string>()
  /** Of the holders. */
  private readonly limits = new Counts()
  /** Of all contenders. */
  private readonly ttls = new Counts()
  private border = 0n
  private firstSeat = 0
  private nextSeat = 0
  private seatsHaveGaps = false

  /** Of all keys of the semaphore. */
  constructor(names: SemaphoreNames, revision: bigint, kvs: ReadonlyArray<IKeyValue>) {
    this.names = names
    this.revision = revision
    const created = kvs.map((kv) => [BigInt(kv.create_revision), kv] as const)
    for (const [, kv] of created.toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)) this.put(kv)
    this.grant()
  }

  /** How many keys the semaphore has in the store. */
  get size(): number {
    return this.holders.size + this.waiters.size + this.others.size
  }

  find(identifier: string): Contender | undefined {
    return this.holders.get(identifier) ?? this.waiters.get(identifier)
  }

  /**
   * Events come in the order of their revisions. Those of one revision happen at once: who vanishes with the one ahead is not granted.
   * Returns who is granted, and holds.
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

  /** How many waiters are ahead. */
  position(waiter: Contender): number {
    if (this.seatsHaveGaps) {
      this.firstSeat = this.nextSeat = 0
      for (const other of this.waiters.values()) other.seat = this.nextSeat++
      this.seatsHaveGaps = false
    }
    return waiter.seat - this.firstSeat
  }

  /** The smallest limit that a holder asked with, or a smaller bound. */
  leastLimit(bound: number): number {
    return this.limits.least(bound)
  }

  /** The shortest ttl of all, or a shorter bound. */
  leastTtl(bound: number): number {
    return this.ttls.least(bound)
  }

  /** Whether a request fits at the end of the line, without what its contender has now. */
  fits(identifier: string, permits: number, limit: number): boolean {
    const own = this.find(identifier)
    // The first waiter does not fit, so nobody behind it does.
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
    // One that asked for another number has its new name already.
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

  /** B2: moves the border between holders and waiters. */
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
