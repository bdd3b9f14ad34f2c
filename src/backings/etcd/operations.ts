/**
 * What contenders do: each operation of the contract, as a few requests, of which one changes the store. So a crash leaves it as
 * it was before the operation or after it; what is left is on a lease that nobody renews, and ends with it.
 */
import { Duration, Effect } from "effect"
import type { ITxnRequest, ITxnResponse } from "etcd3"
import type { Acquired, Waiting } from "../../core/Backing.ts"
import { FencingToken } from "../../core/Backing.ts"
import { look, revisionOf, viewOf } from "./answers.ts"
import type { Contender, Contenders } from "./contenders.ts"
import type { Leases } from "./leases.ts"
import type { Mirror, Mirrors } from "./mirrors.ts"
import type { ContenderNames, SemaphoreNames } from "./names.ts"
import * as Requests from "./requests.ts"
import type { Store } from "./store.ts"
import * as View from "./view.ts"

/** What `tryAcquire` asks for; the ttl in whole seconds. */
export interface Request {
  readonly key: string
  readonly identifier: string
  readonly ttl: number
  readonly limit: number
  readonly permits: number
  readonly queue: boolean
}

interface Own {
  readonly hold: View.Hold | undefined
  readonly place: View.Place | undefined
}

/** Whether a release of what was there has left nothing that it should have removed. */
const isReleased = (now: Own, { hold, place }: Own, permits: number): boolean =>
  (place === undefined || now.place?.created !== place.created) &&
  (hold === undefined || now.hold?.created !== hold.created ||
    permits < hold.permits && now.hold.permits !== hold.permits)

type Entries = ReadonlyArray<View.Hold | View.Place | undefined>

/** Of compares in a txn etcd allows 128. */
const mostBlockers = 100

/** Where others write faster than the watch tells, a mirror is always behind. */
const mostCompared = 100

/**
 * How often others may get in between, until one takes a place in line first and looks then. Where permits change hands faster
 * than a request is answered, what was in the way is always gone: nobody would get into line, and all would ask for ever.
 */
const mostRefusals = 5

export const make = (store: Store, leases: Leases, contenders: Contenders, mirrors: Mirrors | undefined) => {
  /**
   * As it is now. A mirror needs only be compared; if it lags behind, the events are on their way. Of the line only an end, if
   * that is enough.
   */
  const lookNow = Effect.fnUntraced(function*(
    names: SemaphoreNames,
    mirror: Mirror | undefined,
    end: Requests.EndOfLine | undefined
  ) {
    for (let compared = 0; compared < mostCompared; compared++) {
      const view = mirror?.view()
      if (mirror === undefined || view === undefined) break
      const { revision } = view
      const size = View.size(view)
      const answer = yield* store.txn(Requests.compareWith(names, view))
      if (answer.succeeded && Number(answer.responses[0]!.response_range.count) === size) return view
      if (!(yield* mirror.changed(revision))) break
      const later = mirror.view()
      if (later && later.revision >= revisionOf(answer)) return later
    }
    return yield* look(store, names, end)
  })

  const leaseWith = ({ leases }: Contender, id: string | undefined, ttl: number) =>
    Array.from(leases).find((lease) => lease.id === id && lease.ttl === ttl && lease.isUsable)

  /**
   * Does a request that puts something on a lease of the contender, instead of what it replaces: not on the lease of what must
   * not be renewed by it. Nothing if the request is refused, or the lease is gone.
   */
  const putOnLease = Effect.fnUntraced(function*(
    contender: Contender,
    ttl: number,
    replaced: Entries,
    except: Entries,
    request: (lease: string) => ITxnRequest
  ) {
    const lease = contenders.leaseOf(contender, ttl, except)
    const answer = yield* leases.use(
      lease,
      (id) => store.txn(request(id), () => void (contender.isDoubtful = true)),
      replaced.some((entry) => entry && entry.lease !== lease.id) ? "first" : undefined
    ).pipe(
      // One that could not be granted has nothing on it; interrupted, it may be granted yet, and is for the release to revoke.
      Effect.tapError(() => Effect.sync(() => lease.isUsable || contender.leases.delete(lease)))
    )
    if (answer === undefined) contender.leases.delete(lease)
    return answer?.succeeded ? { answer, lease: lease.id, revision: revisionOf(answer) } : undefined
  })

  const own = (names: ContenderNames, identifier: string, answer: ITxnResponse) => {
    const view = viewOf(names.semaphore, answer)
    return { view, hold: view.holds.get(identifier), place: view.line.get(identifier) }
  }

  /**
   * B5: extends a hold, on whatever lease it is, or only the one with this token; nothing if there is none. Tells of its place
   * in line, too.
   */
  const extend = Effect.fnUntraced(function*(
    names: ContenderNames,
    identifier: string,
    contender: Contender,
    ttl: number,
    token?: bigint
  ) {
    // Who asks after a failure may have sent a release that is still on its way: that leaves alone what has changed since.
    let mustMove = token !== undefined && contender.isDoubtful
    while (true) {
      const lease = leaseWith(contender, contender.hold?.lease, ttl)
      const ask = store.txn(Requests.own(names))
      const answer = lease ? yield* leases.use(lease, () => ask) : yield* ask
      if (answer === undefined) {
        contender.leases.delete(lease!)
        contender.hold = undefined
        continue
      }
      const { hold, place, view } = own(names, identifier, answer)
      contender.hold = hold
      if (hold === undefined || hold.created !== (token ?? hold.created)) {
        if ((hold ?? place) === undefined) yield* contenders.forget(contender)
        return undefined
      }
      if (hold.lease === lease?.id && !mustMove) return { hold, place }
      // It may be on the lease of another process, or on one of another ttl.
      const moved = yield* putOnLease(contender, ttl, [hold], [place], Requests.move(names, view, hold, ttl))
      // Then it is renewed there: its last lease may have been, meanwhile, after this one.
      if (moved) {
        contender.hold = { ...hold, ttl, modified: moved.revision, lease: moved.lease }
        mustMove = false
      }
    }
  })

  const tryAcquire = Effect.fnUntraced(function*(
    { identifier, key, limit, permits, queue, ttl }: Request,
    names: ContenderNames,
    contender: Contender
  ) {
    const mirror = mirrors?.of(key)
    // Who wants all permits goes if there is nobody: that needs no look. Nor does what a mirror shows, if we know what we have.
    const supposed = mirror?.view() ?? (permits === limit ? View.nothing : undefined)
    let view = contender.isDoubtful ? undefined : supposed
    let isNow = false
    let refusals = 0
    /** Who has a place must see the whole line; for others its end is enough. */
    let seesAll = contender.place !== undefined

    while (true) {
      const hold = view?.holds.get(identifier)
      const place = view?.line.get(identifier)
      const lease = leaseWith(contender, place?.lease, ttl)
      const keepsPlace = lease !== undefined && place?.permits === permits && place.limit === limit
      const standsFirst = queue && !keepsPlace && refusals >= mostRefusals

      if (hold?.permits === permits) {
        // Only what it holds now, with this number, is extended; whoever takes a part away later does so after this.
        const extended = isNow ? yield* extend(names, identifier, contender, ttl, hold.created) : undefined
        if (extended) {
          if (extended.place) {
            yield* store.txn(Requests.leave(names, extended.place))
            contender.place = undefined
          }
          return acquired(extended.hold.created)
        }
      } else if (view && !standsFirst && View.fits(view, identifier, permits, limit)) {
        const slot = Requests.freeSlot(view, identifier)
        const request = Requests.acquire(names, view, identifier, permits, limit, ttl)
        // What it has may be missing in the view: if the request is refused for that, it must not have been renewed.
        const spared = queue ? [hold] : [hold, place, contender.place]
        const put = yield* putOnLease(contender, ttl, [hold, place], spared, request)
        if (put) {
          const { lease, revision } = put
          contender.hold = { slot, permits, ttl, created: revision, modified: revision, lease }
          contender.place = undefined
          return acquired(revision)
        }
        refusals++
      } else if (view && (view.isComplete || place === undefined)) {
        if (isNow && !queue) {
          if ((hold ?? place) === undefined) yield* contenders.forget(contender)
          return false
        }
        if (isNow && keepsPlace) {
          const answer = waiting(view, identifier, View.ahead(view, identifier).length, ttl, mirror)
          if (yield* leases.renew(lease)) return answer
          contender.leases.delete(lease)
        } else if (queue && !keepsPlace) {
          const blockers = View.blockers(view, identifier, permits, limit)
          const isGuarded = !standsFirst && blockers.length <= mostBlockers
          const guards = isGuarded ? blockers : []
          const request = Requests.stand(names, view, identifier, permits, limit, ttl, guards)
          const put = yield* putOnLease(contender, ttl, [place], [hold], request)
          if (put) {
            const { answer, lease, revision } = put
            contender.place = { permits, ttl, limit, created: place?.created ?? revision, modified: revision, lease }
            if (isGuarded) {
              const line = answer.responses.at(-1)!.response_range
              const position = place ? line.kvs.length : Number(line.count) - 1
              return waiting(view, identifier, position, ttl, mirror)
            }
            seesAll = true
          } else {
            refusals++
            seesAll ||= !view.isComplete
          }
        }
      } else if (view) {
        seesAll = true
      }

      view = yield* lookNow(names.semaphore, mirror, seesAll ? undefined : { count: limit + 1, place: names.place })
      isNow = true
    }
  })

  const release = Effect.fnUntraced(function*(
    identifier: string,
    permits: number,
    names: ContenderNames,
    contender: Contender
  ) {
    let known: Own = contender
    if (contender.isDoubtful || (known.hold ?? known.place) === undefined) {
      known = own(names, identifier, yield* store.txn(Requests.own(names)))
    }
    while (known.hold ?? known.place) {
      const { hold, place } = known
      let isRepeated = false
      const request = Requests.release(names, hold, place, permits)
      const answer = yield* store.txn(request, () => void (isRepeated = true))
      const now = answer.succeeded ? undefined : own(names, identifier, answer)
      // Of a request that was repeated, the first may have done what the last was refused for: that is not done once more.
      if (now === undefined || isRepeated && isReleased(now, known, permits)) {
        const freed = Math.min(hold?.permits ?? 0, permits)
        if (hold === undefined || freed === hold.permits) yield* contenders.forget(contender)
        else {
          const rest = { ...hold, permits: hold.permits - freed, modified: revisionOf(answer) }
          contender.hold = now ? now.hold : rest
          contender.place = now?.place
        }
        return freed
      }
      known = now
    }
    yield* contenders.forget(contender)
    return 0
  })

  const refresh = (identifier: string, ttl: number, names: ContenderNames, contender: Contender) =>
    Effect.map(
      extend(names, identifier, contender, ttl),
      (extended) => extended !== undefined && acquired(extended.hold.created)
    )

  return { tryAcquire, release, refresh }
}

const acquired = (token: bigint): Acquired => ({ _tag: "Acquired", fencingToken: FencingToken(token) })

/**
 * B3. The watch tells of what expires, too. So for the time until then a bound is enough: a lease lasts no longer than the
 * ttl that it was granted with.
 */
const waiting = (
  view: View.View,
  identifier: string,
  position: number,
  ttl: number,
  mirror: Mirror | undefined
): Waiting => {
  const others = Array.from(view.holds).flatMap(([id, hold]) => id === identifier ? [] : [hold])
  const seconds = [...others, ...View.ahead(view, identifier)].reduce(
    (least, entry) => Math.min(least, entry.ttl),
    position === 0 ? Math.min(1, ttl / 3) : ttl / 3
  )
  return {
    _tag: "Waiting",
    position,
    retryAfter: mirror?.view() === undefined ? undefined : Duration.seconds(seconds)
  }
}
