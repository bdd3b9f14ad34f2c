/**
 * The operations of the contract. In each of them, a single request makes the change, so a crash leaves the state from
 * before the operation or from after it. What a crash leaves behind is on a lease that nobody renews, and ends with it.
 */
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ITxnResponse } from "etcd3"
import type { Acquired, Waiting } from "../../core/Backing.ts"
import { FencingToken } from "../../core/Backing.ts"
import type { Leases } from "./leases.ts"
import type { Lines } from "./lines.ts"
import { mostAtOnce, ofSome, revisionOf } from "./lines.ts"
import type { SemaphoreNames } from "./names.ts"
import * as Names from "./names.ts"
import type { Entry } from "./requests.ts"
import * as Requests from "./requests.ts"
import type { Store } from "./store.ts"
import type { Contender } from "./view.ts"
import { View } from "./view.ts"

export interface Request {
  readonly names: SemaphoreNames
  readonly identifier: string
  /** The text that its names begin with. */
  readonly contender: string
}

export interface Asking extends Request {
  /** Whole seconds. */
  readonly ttl: number
  readonly limit: number
  readonly permits: number
  readonly queue: boolean
}

export interface Refreshing extends Request {
  readonly ttl: number
  readonly limit: number
  readonly permits: number
  readonly token: bigint | undefined
  /** `tryAcquire` sets it: so many permits must still be there, because another process may have released a part since. */
  readonly exact?: boolean
}

type Answer = false | Acquired | Waiting

/** At most this many semaphores are remembered as occupied. */
const mostOccupied = 1000

/** The most contenders in one txn: etcd allows 128 operations, those of the outer txn and of a nested one together. */
const mostMoves = 100

const isMeant = (token: bigint | undefined, own: Pick<Contender, "token">): boolean =>
  token === undefined || own.token === token

const isStill = ({ exact, permits, token }: Refreshing, own: Contender): boolean =>
  isMeant(token, own) && (!exact || own.permits === permits)

/**
 * Returns the first waiter and the holders, except for `own`: while they and `own` are unchanged, nobody is granted. Of
 * more than etcd can compare it returns only some.
 */
const inTheWay = (view: View, own: Entry): ReadonlyArray<Contender> =>
  [...Array.from(view.waiters.values()).slice(0, 1), ...view.holders.values()]
    .filter((one) => one.token !== own.token)
    .slice(0, mostMoves)

export const make = (store: Store, leases: Leases, lines: Lines, owner: string) => {
  const answerOf = (
    { contender, limit: asked, names, permits, ttl }: Refreshing | Asking,
    view: View,
    own: Contender
  ): Acquired | Waiting => {
    const fencingToken = FencingToken(own.token)
    const least = view.leastLimit(asked)
    const limit = least < asked ? least : undefined
    if (own.holds) {
      const member = leases.member(contender)
      if (member?.token === own.token) member.holds = true
      return { _tag: "Acquired", fencingToken, permits: own.permits < permits ? own.permits : undefined, limit }
    }
    const position = view.position(own)
    // An upper bound is enough, because the watch also shows what expires. Nothing lasts longer than its ttl.
    const seconds = view.leastTtl(position === 0 ? Math.min(1, ttl / 3) : ttl / 3)
    const retryAfter = lines.view(names) === undefined ? undefined : Duration.seconds(seconds)
    return { _tag: "Waiting", fencingToken, position, retryAfter, limit }
  }

  /** Tries to join the line. Returns nothing if the lease has ended, and with it all that was put there. */
  const join = Effect.fnUntraced(function*(
    { contender, limit, names, permits, ttl }: Asking,
    known: Entry | undefined,
    /** The revision at which the request was seen to fit. */
    fits: bigint | undefined
  ) {
    const start = performance.now()
    const reads = lines.view(names) === undefined
    const slot = known === undefined ? "a" : Names.otherSlot(known.slot)
    const value = { permits, limit, ttl, border: 0n, owner }
    const request = Requests.join(names, contender, known, value, fits, reads)
    return yield* leases.put(ttl, [contender], request, (answer, lease, isUnwanted) => {
      const revision = revisionOf(answer)
      if (answer.succeeded) {
        if (known !== undefined) leases.leave(contender, known.lease)
        const entry = { ...value, slot, token: revision, modified: revision, lease: lease.id, holds: false } as const
        // The lease is not renewed any more: the others leave it at their next refresh. This one leaves at once.
        if (isUnwanted) Effect.runFork(Effect.ignore(store.txn(Requests.leave(contender, entry))))
        else leases.enter(lease, contender, entry, start)
      }
      return { answer, revision, reads }
    }, { subject: Requests.sharing(names, contender) })
  })

  /** Returns where a contender that has joined stands, or nothing if its place has gone already. */
  const standing = Effect.fnUntraced(function*(
    request: Asking,
    { answer, reads, revision }: NonNullable<Effect.Success<ReturnType<typeof join>>>
  ) {
    const { identifier, names, queue } = request
    const range = answer.responses.at(-1)!
    const size = reads ? Number(range.response_range.count) : lines.view(names)?.size ?? 0
    const isLong = queue && size > mostAtOnce
    const read = reads ? ofSome(names, answer, range) : undefined
    const view = read ?? (yield* isLong ? lines.soon(names, revision) : lines.at(names, revision))
    // So many join that the watch lags, and looks would add to that. If this one holds, the watch will notify it.
    if (view === undefined) return { _tag: "Waiting", fencingToken: FencingToken(revision), position: size } as const
    const own = view.find(identifier)
    return own?.token === revision ? answerOf(request, view, own) : undefined
  })

  /** The semaphores whose last answer to this process was a refusal. */
  const occupied = new Set<string>()

  const tryAcquire = (request: Asking): Effect.Effect<Answer, Error> =>
    Effect.tap(tryAcquireOnce(request), (answer) =>
      Effect.sync(() => {
        occupied.delete(request.names.folder)
        if (answer) return
        if (occupied.size >= mostOccupied) occupied.clear()
        occupied.add(request.names.folder)
      }))

  const tryAcquireOnce = Effect.fnUntraced(function*(request: Asking): Effect.fn.Return<Answer, Error> {
    const { contender, identifier, limit, names, permits, queue } = request
    let own: Entry | undefined = leases.member(contender)
    let view = lines.view(names)
    let isNow = false
    // A txn that may write costs a raft write, even if it has no effect. So a request that must not wait reads first. A
    // request for all permits needs no prior read: it succeeds only if the semaphore is empty, as it likely is unless
    // this process was just refused.
    if (!queue && view === undefined && permits === limit && !occupied.has(names.folder)) view = new View(names, 0n, [])
    while (true) {
      if (own?.permits === permits) {
        if (!queue && !own.holds) {
          view = yield* look(names)
          own = view.find(identifier)
          isNow = true
          if (own?.permits !== permits) continue
          if (!own.holds) return false
        }
        if (limit < own.limit) yield* lower(request)
        const [answer] = yield* refreshAll([{ ...request, token: own.token, exact: true }])
        if (answer) return answer
      } else if (queue || view?.fits(identifier, permits, limit)) {
        // A waiter that the last release granted may release at once: its release and this request can then share a call.
        if (queue) yield* lines.afterRelease(names)
        const joined = yield* join(request, own, queue ? undefined : view?.revision)
        if (joined?.answer.succeeded) {
          const answer = yield* standing(request, joined)
          if (answer !== undefined) return answer
        }
      } else if (isNow) {
        if (own === undefined) yield* leases.bury(contender)
        return false
      }
      view = yield* look(names)
      own = view.find(identifier)
      isNow = true
      const member = leases.member(contender)
      if (member && member.token <= view.revision && member.token !== own?.token) leases.forget(contender)
    }
  })

  const look = (names: SemaphoreNames) => Effect.map(lines.now([names]), ({ views }) => views[0]!)

  /**
   * Lowers the limit of a contender to the request's, because the smallest counts. Those that hold keep their holds.
   */
  const lower = Effect.fnUntraced(function*({ contender, identifier, limit, names, permits }: Asking) {
    while (true) {
      const view = yield* look(names)
      const own = view.find(identifier)
      if (own?.permits !== permits || own.limit <= limit) return
      const border = Array.from(view.holders.values()).at(-1)?.token ?? 0n
      // Of more holders than etcd can compare, one may leave at this moment: the waiter that this grants may then count
      // as waiting until the next one leaves.
      const request = Requests.rewrite(
        contender,
        own,
        { ...own, owner, limit, border },
        { names, view, stay: inTheWay(view, own) }
      )
      leases.forget(contender)
      if ((yield* store.txn(request)).succeeded) return
    }
  })

  /** Returns those that are now on leases which last a full ttl from `start`. Those that can't stay on theirs move. */
  const keep = Effect.fnUntraced(function*(
    asked: ReadonlyArray<{ readonly request: Refreshing; readonly own: Contender }>,
    start: number,
    term: bigint
  ) {
    const kept = new Set<string>()
    const { joining, staying } = leases.together(
      asked.flatMap(({ own, request: { contender, ttl } }) => {
        const member = leases.member(contender)
        // A contender whose last write is not known for certain moves, too. This changes its revision: so an unanswered
        // request that comes late has no effect.
        return member?.modified === own.modified && member.on.ttl === ttl ? [contender] : []
      }),
      start
    )
    const renewAll = Effect.forEach(
      staying,
      ([lease, contenders]) =>
        Effect.map(leases.lasts(lease, start, term), (lasts) => {
          if (lasts) { for (const contender of contenders) kept.add(contender) }
        }),
      { concurrency: "unbounded", discard: true }
    )
    const stay = new Set(Array.from(staying.values()).flat())
    const moving = asked.filter(({ request }) => !stay.has(request.contender))
    const moves = Object.values(
      Arr.groupBy(moving, ({ request: { contender, ttl } }) => `${ttl} ${joining.has(contender)}`)
    )
      .flatMap((all) => Arr.chunksOf(all, mostMoves))
    const moveAll = Effect.forEach(moves, (some) => {
      const { ttl } = some[0]!.request
      const contenders = some.map(({ request }) => request.contender)
      const request = Requests.move(
        { owner, ttl },
        some.map(({ own, request }) => ({ contender: request.contender, known: own }))
      )
      contenders.forEach((contender) => leases.forget(contender))
      return Effect.map(
        leases.put(ttl, contenders, request, (answer, lease) => {
          const modified = revisionOf(answer)
          return some.flatMap(({ own, request: { contender } }, index) => {
            if (!answer.responses[index]!.response_txn.succeeded) return []
            leases.leave(contender, own.lease)
            leases.enter(lease, contender, { ...own, owner, ttl, modified }, start)
            return [contender]
          })
        }, {
          first: true,
          // A contender that is refreshed at times of its own, such as the first in line, would have to leave the others often.
          apart: !joining.has(contenders[0]!)
        }),
        (moved = []) => moved.forEach((contender) => kept.add(contender))
      )
    }, { concurrency: "unbounded", discard: true })

    yield* Effect.all([renewAll, moveAll], { concurrency: 2, discard: true })
    return kept
  })

  /**
   * Returns the keys of these contenders if each is known to hold by its token. Without a token, another process may
   * have a place under the identifier by now, or another number of permits: only the whole line shows that.
   */
  const holdersOf = (requests: ReadonlyArray<Refreshing>): ReadonlyArray<Buffer> | undefined => {
    const keys = requests.flatMap(({ contender, token }) => {
      const member = leases.member(contender)
      return member?.holds && member.token === token ? [Names.slotOf(contender, member.slot)] : []
    })
    return keys.length === requests.length ? keys : undefined
  }

  const refreshAll = Effect.fnUntraced(
    function*(requests: ReadonlyArray<Refreshing>): Effect.fn.Return<Array<Answer>, Error> {
      const start = performance.now()
      for (const { contender, token } of requests) {
        const member = leases.member(contender)
        // This keeps members together that are refreshed at the same time, but one by one.
        if (member !== undefined && isMeant(token, member)) member.refreshed = start
      }
      const answers = new Map<Refreshing, Answer>()
      while (answers.size < requests.length) {
        const left = requests.filter((request) => !answers.has(request))
        const byFolder = Arr.groupBy(left, ({ names }) => names.folder)
        const all = Object.values(byFolder).map(([{ names }]) => names)
        const { term, views } = yield* lines.now(all, ({ folder }) => holdersOf(byFolder[folder]!))
        const viewOf = new Map(all.map(({ folder }, index) => [folder, views[index]!]))
        const found = new Map<string, { readonly request: Refreshing; readonly own: Contender }>()
        for (const request of left) {
          const { contender, identifier, names } = request
          const own = viewOf.get(names.folder)!.find(identifier)
          if (own !== undefined && isStill(request, own)) {
            // Several requests of one contender take turns.
            if (!found.has(contender)) found.set(contender, { request, own: { ...own } })
            continue
          }
          answers.set(request, false)
          if (own === undefined) yield* leases.bury(contender)
        }
        const kept = yield* keep(Array.from(found.values()), start, term)
        for (const { own, request } of found.values()) {
          if (!kept.has(request.contender)) continue
          const seen = viewOf.get(request.names.folder)!
          const watched = lines.view(request.names)
          // While a contender moves, it is not notified: what the watch has shown since then counts.
          const view = watched !== undefined && watched.revision > seen.revision ? watched : seen
          const now = view.find(request.identifier)
          if (now?.token === own.token && isStill(request, now)) answers.set(request, answerOf(request, view, now))
        }
      }
      return requests.map((request) => answers.get(request)!)
    }
  )

  /** If the client retried a release, the first attempt may have succeeded: returns whether it has. */
  const isReleased = (before: Entry, now: Entry | undefined, part: boolean) =>
    now?.token !== before.token || part && now.permits !== before.permits

  const holdsIn = (names: SemaphoreNames, identifier: string, answer: ITxnResponse) =>
    ofSome(names, answer, answer.responses[0]!)?.find(identifier)?.holds === true

  const release = Effect.fnUntraced(function*(
    { contender, identifier, names }: Request,
    permits: number,
    token: bigint | undefined
  ) {
    yield* leases.settle(contender)
    let view: View | undefined
    const find = Effect.map(look(names), (now) => (view = now).find(identifier))
    let own: Entry | undefined = leases.member(contender)
    // It looks if another process may have acquired in its name, or if a part is to be released of what may be a hold.
    if (own === undefined || !isMeant(token, own) || !own.holds && permits < own.permits) own = yield* find
    while (own !== undefined && isMeant(token, own)) {
      const given = Math.min(own.permits, permits)
      const rest = own.holds ? own.permits - given : 0
      // A place is given up whole. `stay` makes this fail if it has just become a hold, of which a part is to stay.
      const stay = !own.holds && view !== undefined && given < own.permits ? inTheWay(view, own) : []
      leases.forget(contender)
      let isRepeated = false
      const request = rest > 0
        ? Requests.rewrite(contender, own, { ...own, permits: rest })
        : own.holds
        ? Requests.leave(contender, own)
        : Requests.leavePlace(names, contender, own, stay)
      // In a shared call, another txn may delete one of `stay` after this one has compared it.
      const subject = stay.length > 0 ? undefined : Requests.sharing(names, contender)
      const answer = yield* store.txn(request, () => void (isRepeated = true), subject)
      // A place may have become a hold since it was seen last.
      const held = own.holds || answer.succeeded && holdsIn(names, identifier, answer)
      const now: Entry | undefined = answer.succeeded ? undefined : yield* find
      if (answer.succeeded) lines.released(names, revisionOf(answer))
      if (answer.succeeded || isRepeated && isReleased(own, now, rest > 0)) {
        if (rest === 0) {
          leases.leave(contender, own.lease)
          yield* leases.bury(contender)
        }
        return held ? given : 0
      }
      own = now
    }
    if (own === undefined) yield* leases.bury(contender)
    return 0
  })

  return { tryAcquire, refreshAll, release }
}
