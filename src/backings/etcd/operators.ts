/** What operators need: a look at a semaphore and its leases, a list of the keys in use, and revocations. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { ContenderState, Revocation, SemaphoreState } from "../../core/Backing.ts"
import { FencingToken, mostListed } from "../../core/Backing.ts"
import { newId } from "./leases.ts"
import type { Lines } from "./lines.ts"
import { mostAtOnce } from "./lines.ts"
import type { Range, SemaphoreNames } from "./names.ts"
import * as Names from "./names.ts"
import * as Requests from "./requests.ts"
import type { Store } from "./store.ts"
import type { Contender } from "./view.ts"

/** `inspect` asks at most this many leases how much time they have left, because each takes a request. */
const mostLeases = 100

/** Others may change the semaphore all the time, so `inspect` does not look for ever. */
const mostRounds = 3

/** How many seconds the lease of a notice lasts: long enough for the request that puts the notice. */
const noticeTtl = 5

/** Copies the first contenders, because a view that a watch keeps changes. */
const copy = (contenders: ReadonlyMap<string, Contender>): ReadonlyArray<Contender> =>
  Array.from(contenders.values()).slice(0, mostListed).map((one) => ({ ...one }))

/** Asks leases how many seconds they have left. */
const timesLeft = (store: Store, leases: ReadonlySet<string>) =>
  Effect.map(
    Effect.forEach(
      Array.from(leases).slice(0, mostLeases),
      (lease) => Effect.map(store.secondsLeft(lease), (seconds) => [lease, seconds] as const),
      { concurrency: 16 }
    ),
    (times) => new Map(times)
  )

/** A contender that has another lease by now has another time left, too. */
const withLease = ({ lease, token }: Contender): string => `${token} ${lease}`

const describe = (left: ReadonlyMap<string, number>) => (contender: Contender): ContenderState => ({
  identifier: contender.identifier,
  permits: contender.permits,
  fencingToken: FencingToken(contender.token),
  remaining: Duration.seconds(left.get(withLease(contender)) ?? contender.ttl),
  owner: contender.owner
})

export const make = (store: Store, lines: Lines, prefix: string, closed: Effect.Effect<void>) => ({
  /**
   * Looks again after it has asked leases for their times, until each contender that it sees was on its lease before.
   * For contenders on leases beyond `mostLeases`, `remaining` is their ttl.
   */
  inspect: Effect.fnUntraced(function*(names: SemaphoreNames): Effect.fn.Return<SemaphoreState, Error> {
    // If `onChanged` watches the semaphore, there is a view already.
    const look = lines.view(names) === undefined
      ? lines.look(names)
      : Effect.map(lines.now([names]), ({ views: [view] }) => view!)
    let left = new Map<string, number>()
    for (let round = 0;; round++) {
      const view = yield* look
      const [holders, line] = [copy(view.holders), copy(view.waiters)]
      const all = [...holders, ...line]
      if (all.every((contender) => left.has(withLease(contender))) || round === mostRounds) {
        return {
          holderCount: view.holders.size,
          waiterCount: view.waiters.size,
          holders: holders.map(describe(left)),
          line: line.map(describe(left))
        }
      }
      // All are asked again: a time from an earlier round may be older than a refresh that others here have followed.
      const times = yield* timesLeft(store, new Set(all.map(({ lease }) => lease)))
      left = new Map(all.map((contender) => [withLease(contender), times.get(contender.lease) ?? contender.ttl]))
    }
  }),

  /** Lists the keys, page by page. After each it skips what is left of the page's last semaphore. */
  keys: Stream.paginate(Names.under(prefix), (rest: Range) =>
    Effect.map(
      store.txn({ success: [Requests.range(rest, { limit: String(mostAtOnce), keys_only: true })] }),
      (answer) => {
        const { kvs, more } = answer.responses[0]!.response_range
        const keys = new Set<string>()
        let next = rest.key
        for (const { key: name } of kvs) {
          const within = Names.semaphoreOf(prefix, name)
          if (within !== undefined && Names.parse(within.names, name) !== undefined) keys.add(within.key)
          next = within !== undefined && keys.has(within.key) ? within.names.all.range_end : Names.after(name)
        }
        return [Array.from(keys), more ? Option.some({ ...rest, key: next }) : Option.none()] as const
      }
    )),

  /** Notifies all processes of a revocation, after the release: its holder then looks at once. */
  notify: (revocation: Revocation) =>
    Effect.suspend(() => {
      const lease = newId()
      return Effect.andThen(
        Effect.andThen(
          store.grant(lease, noticeTtl),
          store.txn(Requests.notice(Names.revocation(prefix, revocation), lease))
        ),
        Effect.ignore(store.revoke(lease))
      )
    }),

  onRevoked: Stream.callback<Revocation>((queue) => {
    const watch = store.watch(Names.revocations(prefix), 0n, ({ events }) => {
      for (const { kv, type } of events) {
        const revocation = type === "Put" ? Names.parseRevocation(prefix, kv.key) : undefined
        if (revocation !== undefined) Queue.offerUnsafe(queue, revocation)
      }
    })
    const forever = Effect.forever(Effect.andThen(Effect.ignore(watch), Effect.sleep("1 second")))
    // The watch ends with the layer, because the user may close the client after that.
    return Effect.forkScoped(Effect.raceFirst(forever, closed))
  })
})
