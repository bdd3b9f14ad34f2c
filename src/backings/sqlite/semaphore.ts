/**
 * One semaphore within one transaction: the contract, as `MemoryBacking` has it, over rows.
 *
 * No cost depends on how many hold or wait, except that of counting the waiters ahead of one, and when a contender asks for
 * another number than it has (B1).
 */
import type { Transaction } from "./transaction.ts"

export interface Contender {
  readonly id: string
  readonly token: number
  readonly permits: number
  readonly allowed: number
  readonly expiry: number
  /** 0 while it waits. */
  readonly granted: number
  readonly listener: string | null
}

/** What is asked for. Times in microseconds. */
export interface Request {
  readonly id: string
  readonly ttl: number
  readonly limit: number
  readonly permits: number
}

const second = 1_000_000

const least = 1000

export interface Row {
  readonly held: number
  readonly waiting: number
  readonly limits: string
}

/** The limits that the holders asked with, and how many holders each has. */
export const limitsOf = ({ limits }: Row): ReadonlyArray<readonly [limit: number, holders: number]> =>
  Array.from(limits.matchAll(/(\d+):(\d+)/g), ([, limit, holders]) => [Number(limit), Number(holders)])

export class Semaphore {
  private readonly transaction: Transaction
  /** The name, encoded. */
  private readonly key: string
  private readonly existed: boolean
  private held = 0
  private waiting = 0
  private limits = new Map<number, number>()
  private changed = false
  /** A token up to which the line has been counted, and how many waiters have a smaller one. */
  private counted = { token: 0, position: 0 }

  /** Reads the semaphore, removes what has expired, and grants what that leaves (B6). */
  constructor(transaction: Transaction, key: string) {
    this.transaction = transaction
    this.key = key
    const row = transaction.get<Row>("semaphore", key)
    this.existed = row !== undefined
    if (row === undefined) return
    this.held = row.held
    this.waiting = row.waiting
    this.limits = new Map(limitsOf(row))
    const expired = transaction.all<Contender>("expired", key, transaction.now)
    for (const contender of expired) this.remove(contender)
    if (expired.length > 0) this.grant()
  }

  /** B1 to B3. */
  ask({ id, limit, permits, ttl }: Request, queue: boolean): Contender | undefined {
    const { transaction } = this
    const own = this.find(id)
    if (own?.permits === permits) return queue || own.granted ? this.extend(own, ttl, limit) : undefined

    if (!queue && !this.fits(permits, limit, own)) return undefined
    if (own !== undefined) this.remove(own)
    const token = transaction.issue()
    const contender = { id, token, permits, allowed: limit, expiry: transaction.now + ttl }
    if (this.waiting === 0 && this.fits(permits, limit)) {
      this.count(limit, permits, 1)
      return this.insert({ ...contender, granted: token, listener: null })
    }
    this.waiting++
    const waiter = this.insert({ ...contender, granted: 0, listener: transaction.listener })
    if (own === undefined) return waiter
    // What it has given up may be granted to others, and to itself.
    this.grant(token)
    return this.find(id)
  }

  /** B4. */
  release(id: string, permits: number, token: number | undefined): number {
    const own = this.find(id, token)
    if (own === undefined) return 0
    const freed = own.granted ? Math.min(own.permits, permits) : 0
    if (freed > 0 && freed < own.permits) {
      this.transaction.run("reduce", own.permits - freed, this.key, id)
      this.held -= freed
      this.changed = true
    } else {
      this.remove(own)
    }
    this.grant()
    return freed
  }

  /** B5. */
  refresh(id: string, ttl: number, token: number | undefined): Contender | undefined {
    const own = this.find(id, token)
    return own && this.extend(own, ttl, own.allowed)
  }

  /** Returns the limit that counts for a contender (B2). */
  limitFor({ allowed }: Contender): number {
    return Math.min(this.smallestLimit(), allowed)
  }

  /** Returns how many wait ahead, and the microseconds until a waiter should refresh if it hears nothing (B3). */
  place(
    { allowed, permits, token }: Contender,
    ttl: number
  ): { readonly position: number; readonly retryAfter: number } {
    const { transaction } = this
    const position = this.position(token)
    // Near the head of the line, any expiry may free the way. Farther back, it is enough to look if the waiter directly
    // ahead is gone: otherwise that one looks, and any look grants to all.
    const expiry = position + permits <= allowed
      ? transaction.get<Expiry>("firstExpiry", this.key)!.expiry
      : transaction.get<Expiry>("expiryAhead", this.key, token)?.expiry ?? Number.POSITIVE_INFINITY
    const bound = position === 0 ? Math.min(ttl / 3, second) : ttl / 3
    return { position, retryAfter: Math.max(least, Math.min(bound, expiry - transaction.now)) }
  }

  /** Writes the sums. An idle key leaves nothing (C5). */
  save(): void {
    if (!this.changed) return
    const { transaction } = this
    if (this.limits.size + this.waiting > 0) {
      const limits = Array.from(this.limits, ([limit, holders]) => `${limit}:${holders}`).join(" ")
      transaction.run("saveSemaphore", this.key, this.held, this.waiting, limits)
    } else if (this.existed) {
      transaction.run("removeSemaphore", this.key)
    }
    this.changed = false
  }

  private find(id: string, token?: number): Contender | undefined {
    if (this.limits.size + this.waiting === 0) return undefined
    const own = this.transaction.get<Contender>("find", this.key, id)
    return token === undefined || own?.token === token ? own : undefined
  }

  private insert(contender: Contender): Contender {
    const { key, transaction } = this
    const { allowed, expiry, granted, id, listener, permits, token } = contender
    const { owner, wall } = transaction
    transaction.run("insert", key, id, token, permits, allowed, expiry, granted, listener, owner, wall())
    this.changed = true
    return contender
  }

  /** Extends a hold or a place. Another process may take it over, and may ask with a smaller limit. */
  private extend(own: Contender, ttl: number, limit: number): Contender {
    const { transaction } = this
    const expiry = transaction.now + ttl
    const allowed = Math.min(own.allowed, limit)
    const listener = own.granted ? null : transaction.listener
    transaction.run("extend", expiry, allowed, listener, transaction.owner, this.key, own.id)
    if (own.granted && allowed < own.allowed) {
      this.count(own.allowed, 0, -1)
      this.count(allowed, 0, 1)
    }
    return { ...own, expiry, allowed, listener }
  }

  /** Returns whether a request fits behind everybody else, without what its contender has now (B2). */
  private fits(permits: number, limit: number, own?: Contender): boolean {
    if (own === undefined) return this.waiting === 0 && this.held + permits <= Math.min(this.smallestLimit(), limit)
    const others = this.transaction.get<{ permits: number; allowed: number | null }>("others", this.key, own.id)!
    return others.permits + permits <= Math.min(others.allowed ?? limit, limit)
  }

  private remove({ allowed, granted, id, permits }: Contender): void {
    this.transaction.run("remove", this.key, id)
    if (granted) this.count(allowed, -permits, -1)
    else this.leaveLine()
  }

  private leaveLine(): void {
    this.waiting--
    this.counted = { token: 0, position: 0 }
    this.changed = true
  }

  private count(limit: number, permits: number, holders: number): void {
    const count = (this.limits.get(limit) ?? 0) + holders
    if (count > 0) this.limits.set(limit, count)
    else this.limits.delete(limit)
    this.held += permits
    this.changed = true
  }

  private smallestLimit(): number {
    return Math.min(...this.limits.keys())
  }

  /** Moves the border between holders and waiters. Notifies the waiters that it passes, except for the asker. */
  private grant(asker?: number): void {
    const { key, transaction } = this
    while (this.waiting > 0 && this.held < this.smallestLimit()) {
      const first = transaction.get<Contender>("first", key)
      if (first === undefined) return void (this.waiting = 0)
      const { allowed, id, listener, permits, token } = first
      if (this.held + permits > Math.min(this.smallestLimit(), allowed)) return
      const isAnswered = token === asker
      const isToLook = isAnswered ? null : transaction.notify(key, token, listener)
      transaction.run("grant", transaction.issue(), isToLook, key, id)
      this.leaveLine()
      this.count(allowed, permits, 1)
    }
  }

  private position(token: number): number {
    if (this.waiting === 1) return 0
    const from = this.counted.token <= token ? this.counted : { token: 0, position: 0 }
    const { count } = this.transaction.get<{ count: number }>("countLine", this.key, from.token, token)!
    this.counted = { token, position: from.position + count }
    return this.counted.position
  }
}

interface Expiry {
  readonly expiry: number
}
