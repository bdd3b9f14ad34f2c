/**
 * The leases of a process, and the contenders on each.
 *
 * Contenders share a lease if they were last refreshed at the same time: it then ends when each of them should end
 * (B6). So a lease is renewed only for all contenders on it. Those that are refreshed without the others move to
 * another lease.
 *
 * A request that failed, was repeated or was given up may still put something on its lease, and this must not stay.
 * While a lease has such a *doubt*, nothing else is put on it and nobody renews it: what arrives late ends with the
 * lease, or finds it gone (B12).
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ITxnRequest, ITxnResponse } from "etcd3"
import type { Renewal } from "./keepAlives.ts"
import type { Entry } from "./requests.ts"
import type { Store } from "./store.ts"
import { isLeaseNotFound } from "./store.ts"
import type { Subject } from "./txns.ts"

/** A contender that this process put on a lease. */
export interface Member extends Entry {
  readonly on: Lease
  /** When it was put or refreshed last, in milliseconds of the monotonic clock. */
  refreshed: number
}

interface Doubt {
  /** The contenders that may still want what the request put. */
  readonly contenders: Set<string>
  /** The request, until it is answered. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

export interface Lease {
  readonly id: string
  /** Seconds. */
  readonly ttl: number
  granting: Fiber.Fiber<unknown, Error> | undefined
  renewed: Renewal
  isRevoked: boolean
  /** By contender. */
  readonly members: Map<string, Member>
  /** No member was last refreshed before this time. */
  since: number
  /** When the first member came. */
  taken: number
  /** How many requests are just putting something on it. */
  users: number
  readonly doubts: Set<Doubt>
}

/** Handles the answer to a request. `isUnwanted` says that all its contenders have given up what it put. */
type Landed<A> = (answer: ITxnResponse, lease: Lease, isUnwanted: boolean) => A

/** A request that is under way. */
interface Sent<A> {
  readonly answer: Effect.Effect<{ readonly result: A; readonly term: bigint }, Error>
  /** Says that nobody waits for the answer any more. */
  readonly leave: () => void
}

interface PutOptions {
  /** Whether to renew the lease before the request, however young it is. */
  readonly first?: boolean
  /** Whether to leave alone the leases that others have kept for longer, even if they were refreshed just now. */
  readonly apart?: boolean
  readonly subject?: Subject | undefined
}

const mostMembers = 250

/** How many free leases are kept: granting and revoking one are a raft write each, renewing one is none. */
const mostFree = 16

/** How long a release waits for the answer to a request that was given up. */
const patience = "500 millis"

/** etcd may take this long to end a lease. Until then a place on it may be granted, and its process is notified. */
const lateMillis = 3000

/** Times within this many milliseconds count as the same: no more than the span that the keeper refreshes together. */
const sameTime = (ttl: number) => Math.min(200, ttl * 1000 / 30)

const age = ({ renewed }: Lease): number => performance.now() - renewed.sent

const isGranted = (lease: Lease): boolean => age(lease) < Number.POSITIVE_INFINITY

const isFree = ({ doubts, members, users }: Lease): boolean => members.size + users + doubts.size === 0

/** Returns whether all that is on the lease, or may still come, is unwanted. */
const isOver = ({ doubts, members, users }: Lease): boolean =>
  members.size + users === 0 && doubts.size > 0 && Array.from(doubts).every(({ contenders }) => contenders.size === 0)

/** Makes an ID for a lease. */
export const newId = () => String(crypto.getRandomValues(new BigUint64Array(1))[0]! >> 1n || 1n)

export class Leases {
  private readonly store: Store
  private readonly leases = new Set<Lease>()
  private readonly members = new Map<string, Member>()
  private isClosed = false

  constructor(store: Store) {
    this.store = store
  }

  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isClosed = true
      const unused = Array.from(this.leases).filter(({ members }) => members.size === 0)
      const revokes = Effect.forEach(unused, (lease) => Effect.ignore(this.revoke([lease])), { concurrency: 16 })
      return Effect.asVoid(Effect.timeoutOption(revokes, "1 second"))
    })
  }

  member(contender: string): Member | undefined {
    return this.members.get(contender)
  }

  /**
   * Puts something on a lease, which then lasts a full ttl from now. Returns nothing if the lease has ended, and with
   * it what was put there.
   *
   * The lease is renewed while the request is under way. If half of its time is over, or if `first` is set, it is also
   * renewed before: if it ended just after the request, what the request replaced would be lost, too.
   */
  put<A>(
    ttl: number,
    contenders: ReadonlyArray<string>,
    request: (lease: string) => ITxnRequest,
    landed: Landed<A>,
    { apart = false, first, subject }: PutOptions = {}
  ): Effect.Effect<A | undefined, Error> {
    return Effect.suspend(() => {
      const start = performance.now()
      const lease = this.take(ttl, apart)
      let sent: Sent<A> | undefined
      lease.users++
      const isReady = !isGranted(lease)
        ? Effect.as(this.grant(lease), true)
        : this.lasts(lease, first || age(lease) > ttl * 500 ? start : 0, 0n)
      return Effect.flatMap(isReady, (isReady) => {
        if (!isReady) return Effect.undefined
        const { answer } = sent = this.send(lease, contenders, request(lease.id), landed, subject)
        return Effect.flatMap(Effect.andThen(this.lasts(lease, start, 0n), answer), ({ result, term }) =>
          // A move must not shorten a hold: the lease that the contender left may have been renewed meanwhile.
          Effect.map(
            this.lasts(lease, first ? performance.now() : start, term),
            (lasts) => lasts ? result : undefined
          ))
      }).pipe(
        Effect.catchIf(isLeaseNotFound, () => Effect.as(Effect.sync(() => this.drop(lease)), undefined)),
        Effect.ensuring(Effect.sync(() => {
          sent?.leave()
          lease.users--
          // The grant was given up. The next one takes another lease, and maybe another member answers it.
          if (lease.users === 0 && !isGranted(lease)) this.drop(lease)
          this.tidy(lease)
        }))
      )
    })
  }

  /** Records that a contender is on a lease. */
  enter(lease: Lease, contender: string, entry: Entry, refreshed: number): void {
    const known = this.members.get(contender)
    // The answer to an earlier request may come after the answer to a later one.
    if (known !== undefined && known.modified > entry.modified) return
    if (known !== undefined) this.leave(contender, known.lease)
    const member: Member = { ...entry, lease: lease.id, on: lease, refreshed }
    this.members.set(contender, member)
    lease.members.set(contender, member)
    lease.since = Math.min(lease.since, refreshed)
  }

  /**
   * Returns, by lease, the contenders that can be renewed where they are, because all others on their lease are
   * refreshed at the same time. Leases that were renewed together last time, too, are merged: only the contenders of
   * one of them can stay, and the others join them.
   */
  together(contenders: ReadonlyArray<string>, start: number): {
    readonly staying: ReadonlyMap<Lease, ReadonlyArray<string>>
    readonly joining: ReadonlySet<string>
  } {
    const joining = new Set<string>()
    const byLease = new Map<Lease, Array<string>>()
    for (const contender of contenders) {
      const { on } = this.members.get(contender)!
      const others = byLease.get(on)
      if (others === undefined) byLease.set(on, [contender])
      else others.push(contender)
    }
    let last: { readonly ttl: number; readonly since: number; size: number } | undefined
    for (const lease of Array.from(byLease.keys()).toSorted((a, b) => a.since - b.since)) {
      const { doubts, members, since, ttl } = lease
      let oldest = start
      for (const { refreshed } of members.values()) oldest = Math.min(oldest, refreshed)
      const isWhole = start - oldest <= sameTime(ttl) && doubts.size === 0
      const isOneTooMany = isWhole && last?.ttl === ttl && since - last.since <= sameTime(ttl) &&
        last.size + members.size <= mostMembers
      if (isOneTooMany) { for (const contender of byLease.get(lease)!) joining.add(contender) }
      if (!isWhole || isOneTooMany) byLease.delete(lease)
      else lease.since = oldest
      if (isOneTooMany) last!.size += members.size
      else if (isWhole) last = { ttl, since, size: members.size }
    }
    return { staying: byLease, joining }
  }

  /**
   * Renews a lease, unless it lasts a full ttl from `start` already. Returns false if the lease has ended.
   *
   * A deposed leader that has not noticed still answers renewals of which its successor knows nothing. So a renewal
   * counts only if its term is at least `term`: that of a request that was sent since `start`, and that a majority
   * confirmed. Any later leader was then elected after `start`, and gave the lease a full ttl.
   */
  lasts(lease: Lease, start: number, term: bigint): Effect.Effect<boolean, Error> {
    return Effect.suspend(() => {
      if (lease.isRevoked) return Effect.succeed(false)
      const { renewed } = lease
      if (renewed.sent >= start && renewed.term >= term) return Effect.succeed(true)
      // Another member may know the present leader.
      if (renewed.sent >= start) this.store.keepAlives.reset()
      return Effect.flatMap(this.store.keepAlives.renew(lease.id), (renewal) => {
        if (renewal === undefined) this.drop(lease)
        else if (renewal.sent > lease.renewed.sent) lease.renewed = renewal
        return this.lasts(lease, start, term)
      })
    })
  }

  /** Forgets what is known of a contender, before a request that may change it. The contender stays on its lease. */
  forget(contender: string): void {
    this.members.delete(contender)
  }

  /** Records that a contender has nothing on a lease any more. */
  leave(contender: string, id: string): void {
    if (this.members.get(contender)?.lease === id) this.members.delete(contender)
    for (const lease of this.leases) if (lease.id === id && lease.members.delete(contender)) this.tidy(lease)
  }

  /** Waits up to `patience` for the answers to requests of a contender that were given up. */
  settle(contender: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const fibers = this.doubtsOf(contender).flatMap(({ fiber }) => fiber ? [fiber] : [])
      return fibers.length === 0 ? Effect.void : Effect.asVoid(Effect.timeoutOption(Fiber.awaitAll(fibers), patience))
    })
  }

  /**
   * For a contender that has nothing in the store: makes sure that what its unanswered requests may still put does not
   * stay. Their leases are revoked, unless others are on them; then they are not renewed.
   */
  bury(contender: string): Effect.Effect<void, Error> {
    return Effect.suspend(() => {
      const known = this.members.get(contender)
      // If it was forgotten, it still counts as a member of its lease.
      const left = Array.from(this.leases).filter(({ members }) =>
        members.get(contender) !== known && members.delete(contender)
      )
      for (const { contenders } of this.doubtsOf(contender)) contenders.delete(contender)
      return Effect.ensuring(
        this.revoke(Array.from(this.leases).filter(isOver)),
        Effect.sync(() => left.forEach((lease) => this.tidy(lease)))
      )
    })
  }

  private doubtsOf(contender: string): ReadonlyArray<Doubt> {
    const found: Array<Doubt> = []
    for (const { doubts } of this.leases) {
      for (const doubt of doubts) if (doubt.contenders.has(contender)) found.push(doubt)
    }
    return found
  }

  /**
   * Returns a lease whose members were refreshed, or with `apart` came, just now; if there is none, the free one that was
   * renewed last, so that unneeded ones end; or else a new one.
   */
  private take(ttl: number, apart: boolean): Lease {
    let free: Lease | undefined
    for (const lease of this.leases) {
      const isLate = isGranted(lease) && age(lease) >= lease.ttl * 1000 && lease.users === 0
      if (isLate && (isFree(lease) || age(lease) >= lease.ttl * 1000 + lateMillis)) this.drop(lease)
      else if (isLate || lease.ttl !== ttl || lease.doubts.size > 0) continue
      else if (isFree(lease)) free = free && age(free) < age(lease) ? free : lease
      else if (
        performance.now() - (apart ? lease.taken : lease.since) <= sameTime(ttl) &&
        lease.members.size + lease.users < mostMembers
      ) return lease
    }
    free ??= {
      id: newId(),
      ttl,
      granting: undefined,
      renewed: { sent: Number.NEGATIVE_INFINITY, term: 0n },
      isRevoked: false,
      members: new Map(),
      since: 0,
      taken: 0,
      users: 0,
      doubts: new Set()
    }
    free.since = free.taken = performance.now()
    this.leases.add(free)
    return free
  }

  /** Grants the lease, once for all that wait for it. It goes on when any of them gives up. */
  private grant(lease: Lease): Effect.Effect<unknown, Error> {
    lease.granting ??= Effect.runFork(
      Effect.onExit(this.store.grant(lease.id, lease.ttl), (exit) => {
        if (Exit.isFailure(exit)) return Effect.sync(() => this.drop(lease))
        if (lease.isRevoked) return Effect.ignore(this.store.revoke(lease.id))
        lease.renewed = exit.value
        return Effect.void
      })
    )
    return Fiber.join(lease.granting)
  }

  /** Sends a request, and handles the answer, whether or not somebody still waits for it. */
  private send<A>(
    lease: Lease,
    contenders: ReadonlyArray<string>,
    request: ITxnRequest,
    landed: Landed<A>,
    subject: Subject | undefined
  ): Sent<A> {
    let isRepeated = false
    const doubt: Doubt = { contenders: new Set(contenders), fiber: undefined }
    const fiber = doubt.fiber = Effect.runFork(this.store.txn(request, () => void (isRepeated = true), subject))
    let answer: Exit.Exit<{ readonly result: A; readonly term: bigint }, Error>
    fiber.addObserver((exit) => {
      const isUnwanted = lease.doubts.has(doubt) && doubt.contenders.size === 0
      answer = Exit.map(exit, (answer) => ({
        result: landed(answer, lease, isUnwanted),
        term: BigInt(answer.header.raft_term)
      }))
      doubt.fiber = undefined
      if (isLeaseGone(exit) || Exit.isSuccess(exit) && !isRepeated && !isUnwanted) lease.doubts.delete(doubt)
      else lease.doubts.add(doubt)
      this.tidy(lease)
    })
    return {
      answer: Effect.callback((resume) => Effect.sync(fiber.addObserver(() => resume(answer)))),
      leave: () => void (doubt.fiber && lease.doubts.add(doubt))
    }
  }

  private tidy(lease: Lease): void {
    if (lease.isRevoked) return
    if (isOver(lease)) Effect.runFork(Effect.ignore(this.revoke([lease])))
    if (!isFree(lease)) return
    const free = Array.from(this.leases).filter(isFree)
    const oldest = free.reduce((a, b) => age(a) > age(b) ? a : b)
    if (this.isClosed || free.length > mostFree) Effect.runFork(Effect.ignore(this.revoke([oldest])))
  }

  private revoke(leases: ReadonlyArray<Lease>): Effect.Effect<void, Error> {
    return Effect.forEach(leases, (lease) => {
      this.drop(lease)
      return lease.granting === undefined ? Effect.void : this.store.revoke(lease.id)
    }, { concurrency: 16, discard: true })
  }

  private drop(lease: Lease): void {
    lease.isRevoked = true
    this.leases.delete(lease)
    for (const [contender, member] of lease.members) {
      if (this.members.get(contender) === member) this.members.delete(contender)
    }
  }
}

const isLeaseGone = (exit: Exit.Exit<unknown, unknown>): boolean => {
  const error = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
  return error?._tag === "Fail" && isLeaseNotFound(error.error as Error)
}
