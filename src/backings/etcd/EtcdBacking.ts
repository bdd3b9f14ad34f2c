/**
 * Semaphores in etcd, through a client of `etcd3`.
 *
 * **When to use**
 *
 * Use it where what a semaphore promises must survive the loss of a store node: of a cluster of three, any one may go.
 *
 * **Gotchas**
 *
 * etcd counts leases in whole seconds, and grants none below its floor (2 s, with its default settings): a hold that is
 * neither released nor refreshed lasts at least that long. How the client should be configured is told in `docs/etcd.md`.
 *
 * @since 0.1.0
 */
import { Duration, Effect, Layer, Schedule } from "effect"
import type { Etcd3, ITxnRequest, ITxnResponse } from "etcd3"
import type { Acquired, SemaphoreState, Waiting } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import * as Contenders from "./contenders.ts"
import type { Contender } from "./contenders.ts"
import * as Leases from "./leases.ts"
import * as Mirrors from "./mirrors.ts"
import * as Names from "./names.ts"
import * as Requests from "./requests.ts"
import * as Store from "./store.ts"
import * as View from "./view.ts"

/**
 * @category options
 * @since 0.1.0
 */
export interface EtcdBackingOptions {
  /** What all keys start with, `"semaphore/"` by default. */
  readonly keyPrefix?: string | undefined
  /** Whether waiters are notified, `true` by default, by one watch for each key that this process waits for. Otherwise they poll. */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /** When to watch again after a watch has broken: every second by default. When it ends, waiters poll. */
  readonly pushStreamRetrySchedule?: Schedule.Schedule<unknown> | undefined
}

/** What `tryAcquire` asks for; the ttl in whole seconds. */
interface Request {
  readonly key: string
  readonly identifier: string
  readonly ttl: number
  readonly limit: number
  readonly permits: number
  readonly queue: boolean
}

const defaultPrefix = "semaphore/"

/**
 * Keeps semaphores in the etcd of `client`, which stays yours: it is neither configured nor closed.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (client: Etcd3, options: EtcdBackingOptions = {}): Layer.Layer<DistributedSemaphoreBacking> =>
  Layer.effect(DistributedSemaphoreBacking, make(client, options))

/**
 * The name in etcd of a hold, whose `create_revision` is its fencing token: for a txn that writes only while the hold lasts.
 *
 * **Gotchas**
 *
 * A holder that acquires another number of permits, under the same identifier and without a release in between, goes to
 * another name. So compare `create_revision` with the token, and not only whether there is such a key.
 *
 * @category fencing
 * @since 0.1.0
 */
export const holdName = (
  key: string,
  identifier: string,
  options: Pick<EtcdBackingOptions, "keyPrefix"> = {}
): string => Names.contender(options.keyPrefix ?? defaultPrefix, key, identifier).hold.a.toString()

const make = Effect.fnUntraced(function*(client: Etcd3, options: EtcdBackingOptions) {
  const prefix = options.keyPrefix ?? defaultPrefix
  const store = Store.make(client)
  const leases = yield* Leases.make(store)
  const contenders = Contenders.make(leases)

  const look = (names: Names.SemaphoreNames, endOfLine?: number): Effect.Effect<View.View, Error> =>
    Effect.map(store.txn(Requests.look(names, endOfLine)), (answer) => {
      const [holds, notes, line] = answer.responses.map(({ response_range }) => response_range)
      const places = endOfLine ? line!.kvs.toReversed() : line!.kvs
      return View.ofRange(names, revisionOf(answer), [...holds!.kvs, ...notes!.kvs, ...places], !line!.more)
    })

  const mirrors = options.pushBasedAcquireEnabled === false ? undefined : yield* Mirrors.make(
    store,
    (key) => Names.semaphore(prefix, key),
    look,
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )

  /** As it is now. A mirror needs only be compared; if it lags behind, the events are on their way. */
  const lookNow = Effect.fnUntraced(function*(
    names: Names.SemaphoreNames,
    mirror: Mirrors.Mirror | undefined,
    endOfLine: number | undefined
  ) {
    while (true) {
      const view = mirror?.view()
      if (mirror === undefined || view === undefined) return yield* look(names, endOfLine)
      const { revision } = view
      const size = View.size(view)
      const answer = yield* store.txn(Requests.compareWith(names, view))
      if (answer.succeeded && Number(answer.responses[0]!.response_range.count) === size) return view
      if (!(yield* mirror.changed(revision))) return yield* look(names, endOfLine)
      const later = mirror.view()
      if (later && later.revision >= revisionOf(answer)) return later
    }
  })

  const leaseWith = ({ leases }: Contender, id: string | undefined, ttl: number) =>
    Array.from(leases).find((lease) => lease.id === id && lease.ttl === ttl)

  /**
   * Does a request that puts something on a lease of the contender: not on the lease of what must not be renewed by it. Nothing
   * if the request is refused, or the lease is gone.
   */
  const putOnLease = Effect.fnUntraced(function*(
    contender: Contender,
    ttl: number,
    except: ReadonlyArray<View.Hold | View.Place | undefined>,
    request: (lease: string) => ITxnRequest
  ) {
    const lease = contenders.leaseOf(contender, ttl, except)
    const answer = yield* leases.use(lease, (id) => store.txn(request(id), () => void (contender.isDoubtful = true)))
    if (answer === undefined) contender.leases.delete(lease)
    return answer?.succeeded ? { answer, lease: lease.id, revision: revisionOf(answer) } : undefined
  })

  const own = (names: Names.ContenderNames, identifier: string, answer: ITxnResponse) => {
    const { holds, line } = viewOf(names.semaphore, answer)
    return { hold: holds.get(identifier), place: line.get(identifier) }
  }

  /** B5: extends a hold, on whatever lease it is; nothing if there is none. Tells of its place in line, too. */
  const extend = Effect.fnUntraced(function*(
    names: Names.ContenderNames,
    identifier: string,
    contender: Contender,
    ttl: number
  ) {
    while (true) {
      const lease = leaseWith(contender, contender.hold?.lease, ttl)
      const ask = store.txn(Requests.own(names))
      const answer = lease ? yield* leases.use(lease, () => ask) : yield* ask
      if (answer === undefined) {
        contender.leases.delete(lease!)
        contender.hold = undefined
        continue
      }
      const { hold, place } = own(names, identifier, answer)
      contender.hold = hold
      if (hold === undefined) return undefined
      if (hold.lease === lease?.id) return { hold, place }
      // It is on the lease of another process, or on one of another ttl.
      const moved = yield* putOnLease(contender, ttl, [place], Requests.move(names, hold, ttl))
      if (moved) {
        contender.hold = { ...hold, ttl, modified: moved.revision, lease: moved.lease }
        return { hold, place }
      }
    }
  })

  const tryAcquire = Effect.fnUntraced(function*(
    { identifier, key, limit, permits, queue, ttl }: Request,
    names: Names.ContenderNames,
    contender: Contender
  ) {
    const mirror = mirrors?.of(key)
    // Who wants all permits goes if there is nobody: that needs no look.
    let view = mirror?.view() ?? (permits === limit ? View.nothing : undefined)
    let isNow = false
    /** Who has a place must see the whole line; for others its end is enough. */
    let seesAll = contender.place !== undefined

    while (true) {
      const hold = view?.holds.get(identifier)
      const place = view?.line.get(identifier)

      if (hold?.permits === permits) {
        const extended = yield* extend(names, identifier, contender, ttl)
        if (extended?.hold.permits === permits) {
          if (extended.place) {
            yield* store.txn(Requests.leave(names, extended.place))
            contender.place = undefined
          }
          return acquired(extended.hold.created)
        }
      } else if (view && View.fits(view, identifier, permits, limit)) {
        const slot = Requests.freeSlot(view, identifier)
        const request = Requests.acquire(names, view, identifier, permits, limit, ttl)
        const put = yield* putOnLease(contender, ttl, queue ? [hold] : [hold, place], request)
        if (put) {
          const { lease, revision } = put
          contender.hold = { slot, permits, ttl, created: revision, modified: revision, lease }
          contender.place = undefined
          return acquired(revision)
        }
      } else if (view && (view.isComplete || place === undefined)) {
        const lease = leaseWith(contender, place?.lease, ttl)
        const keepsPlace = lease !== undefined && place?.permits === permits && place.limit === limit
        if (isNow && !queue) return false
        if (isNow && keepsPlace) {
          const answer = waiting(view, identifier, View.ahead(view, identifier).length, ttl, mirror)
          if (yield* leases.renew(lease)) return answer
          contender.leases.delete(lease)
        } else if (queue && !keepsPlace) {
          const request = Requests.stand(names, view, identifier, permits, limit, ttl)
          const put = yield* putOnLease(contender, ttl, [hold], request)
          if (put) {
            const { answer, lease, revision } = put
            contender.place = { permits, ttl, limit, created: place?.created ?? revision, modified: revision, lease }
            const line = answer.responses.at(-1)!.response_range
            const position = place ? line.kvs.length : Number(line.count) - 1
            return waiting(view, identifier, position, ttl, mirror)
          }
          seesAll ||= !view.isComplete
        }
      } else {
        seesAll = true
      }

      view = yield* lookNow(names.semaphore, mirror, seesAll ? undefined : limit + 1)
      isNow = true
    }
  })

  const release = Effect.fnUntraced(function*(
    identifier: string,
    permits: number,
    names: Names.ContenderNames,
    contender: Contender
  ) {
    let known: { readonly hold: View.Hold | undefined; readonly place: View.Place | undefined } = contender
    let isKnown = !contender.isDoubtful && (known.hold ?? known.place) !== undefined
    while (true) {
      if (!isKnown) known = own(names, identifier, yield* store.txn(Requests.own(names)))
      const { hold, place } = known
      if (hold === undefined && place === undefined) {
        yield* contenders.forget(contender)
        return 0
      }
      const answer = yield* store.txn(Requests.release(names, hold, place, permits))
      if (answer.succeeded) {
        const freed = Math.min(hold?.permits ?? 0, permits)
        if (hold === undefined || freed === hold.permits) yield* contenders.forget(contender)
        else {
          contender.hold = { ...hold, permits: hold.permits - freed, modified: revisionOf(answer) }
          contender.place = undefined
        }
        return freed
      }
      isKnown = false
    }
  })

  /** The operation `name`, of a contender. */
  const operate = <A>(
    name: string,
    key: string,
    identifier: string,
    operation: (names: Names.ContenderNames, contender: Contender) => Effect.Effect<A, Error>
  ) =>
    Effect.suspend(() => {
      const names = Names.contender(prefix, key, identifier)
      return failsAs(name, contenders.operate(names, (contender) => operation(names, contender)))
    })

  /** In whole seconds, rounded down. */
  const timeLeft = (entries: Iterable<View.Hold | View.Place>) =>
    Effect.map(
      Effect.forEach(new Set(Array.from(entries, ({ lease }) => lease)), (lease) =>
        Effect.map(store.secondsLeft(lease), (seconds) =>
          [lease, Duration.seconds(Math.max(0, seconds))] as const), {
        concurrency: 16
      }),
      (times) =>
        new Map(times)
    )

  const stateOf = Effect.fnUntraced(function*({ holds, line }: View.View) {
    const times = yield* timeLeft([...holds.values(), ...line.values()])
    const describe = ([identifier, { lease, permits }]: readonly [string, View.Hold | View.Place]) => ({
      identifier,
      permits,
      remaining: times.get(lease)!
    })
    return {
      holders: Array.from(holds, (entry) => ({ ...describe(entry), fencingToken: FencingToken(entry[1].created) })),
      line: Array.from(line, describe)
    } satisfies SemaphoreState
  })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, identifier, ttl, limit, permits, options) =>
      operate("tryAcquire", key, identifier, (names, contender) => {
        const request = { key, identifier, ttl: wholeSeconds(ttl), limit, permits, queue: options?.queue ?? false }
        return tryAcquire(request, names, contender)
      }),

    release: (key, identifier, permits) =>
      operate("release", key, identifier, (names, contender) => release(identifier, permits, names, contender)),

    refresh: (key, identifier, ttl) =>
      operate("refresh", key, identifier, (names, contender) =>
        Effect.map(
          extend(names, identifier, contender, wholeSeconds(ttl)),
          (extended) => extended !== undefined && acquired(extended.hold.created)
        )),

    getCount: (key) =>
      Effect.suspend(() => {
        const names = Names.semaphore(prefix, key)
        return failsAs(
          "getCount",
          Effect.map(store.txn(Requests.holdsOf(names)), (answer) => View.held(viewOf(names, answer)))
        )
      }),

    onPermitsReleased: mirrors?.listen,

    inspect: (key) =>
      failsAs("inspect", Effect.flatMap(Effect.suspend(() => look(Names.semaphore(prefix, key))), stateOf))
  })
})

const failsAs = <A>(operation: string, effect: Effect.Effect<A, Error>) =>
  Effect.mapError(effect, (cause) => new SemaphoreBackingError({ operation, cause }))

const revisionOf = ({ header }: ITxnResponse): bigint => BigInt(header.revision)

/** Of all that the ranges of a request gave. */
const viewOf = (names: Names.SemaphoreNames, answer: ITxnResponse): View.View =>
  View.ofRange(names, revisionOf(answer), answer.responses.flatMap(({ response_range }) => response_range?.kvs ?? []))

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
  mirror: Mirrors.Mirror | undefined
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

/** What etcd counts in. More than a century is for ever. */
const wholeSeconds = (ttl: Duration.Duration): number => Math.min(Math.ceil(Duration.toSeconds(ttl)), 4e9)
