/**
 * The leases of a process. One belongs to one contender at a time; when it is free again it is kept for the next, because to
 * grant and to revoke one is a raft write each, and to renew one is none.
 */
import { Effect } from "effect"
import type { Scope } from "effect"
import type { Renewal, Store } from "./store.ts"
import { isLeaseNotFound } from "./store.ts"

export interface Lease {
  readonly id: string
  /** Seconds. */
  readonly ttl: number
  /** Whether it is granted, and nobody has begun to revoke it. */
  isUsable: boolean
  /** When it was granted or renewed last, in milliseconds of the monotonic clock. */
  renewed: number
}

export interface Leases {
  /** One that is free, or a new one that is yet to be granted. */
  readonly take: (ttl: number) => Lease
  /**
   * Sends a request and sees to it that the lease lasts a full ttl from now. Nothing if there is no such lease any more, and
   * so nothing of what the request put on it.
   *
   * The lease is renewed while the request is under way. If much of its time is over, or if `first` is set, it is renewed before:
   * were it to expire just after the request, then what this replaced would be lost with it.
   */
  readonly use: <A extends { readonly header: { readonly raft_term: string } }>(
    lease: Lease,
    request: (id: string) => Effect.Effect<A, Error>,
    first?: "first"
  ) => Effect.Effect<A | undefined, Error>
  /** Renews; false if there is no such lease any more. */
  readonly renew: (lease: Lease) => Effect.Effect<boolean, Error>
  /** Keeps a lease for others: nothing may be attached to it, nor be on its way. */
  readonly keep: (lease: Lease) => void
  readonly revoke: (lease: Lease) => Effect.Effect<void, Error>
}

const now = () => performance.now()

export const lives = ({ renewed, ttl }: Lease): boolean => now() - renewed < ttl * 1000

const isFresh = ({ renewed, ttl }: Lease): boolean => now() - renewed < ttl * 500

const newId = () => String(crypto.getRandomValues(new BigUint64Array(1))[0]! >> 1n || 1n)

export const make = Effect.fnUntraced(function*(store: Store): Effect.fn.Return<Leases, never, Scope.Scope> {
  /** The one that was freed last is taken first: those that are not needed expire. */
  const free: Array<Lease> = []
  /** How many of these there are, until the layer closes. */
  let mostFree = 16
  /** Those that are too many, until they are revoked. */
  const surplus = new Set<Lease>()

  const revokeAll = (leases: Iterable<Lease>) =>
    Effect.forEach(leases, ({ id }) => Effect.ignore(store.revoke(id)), { concurrency: "unbounded", discard: true })

  yield* Effect.addFinalizer(() => {
    mostFree = 0
    return Effect.timeoutOption(revokeAll([...free.splice(0).filter(lives), ...surplus]), "1 second")
  })

  const confirm = <A>(lease: Lease, effect: Effect.Effect<A, Error>) =>
    Effect.suspend(() => {
      const sent = now()
      return Effect.map(effect, (answer) => {
        if (answer !== undefined) lease.renewed = sent
        return answer
      })
    })

  const grant = (lease: Lease) =>
    Effect.map(confirm(lease, Effect.as(store.grant(lease.id, lease.ttl), true)), () => void (lease.isUsable = true))

  const keepAlive = (lease: Lease) => confirm(lease, store.keepAlive(lease.id))

  /**
   * A leader that was deposed and has not noticed still answers renewals that its successor knows nothing of. So a renewal
   * counts only if the member that passed it on was in no earlier term than one that answered a request, begun in the same
   * time, which a majority confirmed: whoever has led since then has given the lease a full ttl.
   */
  const isRenewedIn = (
    term: bigint,
    lease: Lease,
    renewal: Renewal | undefined
  ): Effect.Effect<boolean, Error> => {
    if (renewal === undefined) return Effect.succeed(false)
    if (renewal.term >= term) return Effect.succeed(true)
    return Effect.flatMap(keepAlive(lease), (again) => isRenewedIn(term, lease, again))
  }

  return {
    take: (ttl) => {
      const index = free.findLastIndex((lease) => lease.ttl === ttl && lives(lease))
      return index >= 0 ? free.splice(index, 1)[0]! : { id: newId(), ttl, isUsable: false, renewed: now() }
    },

    use: (lease, request, first) =>
      Effect.gen(function*() {
        if (!lease.isUsable) {
          yield* grant(lease)
          return yield* request(lease.id)
        }
        let known: Renewal | undefined
        if (first || !isFresh(lease)) {
          known = yield* keepAlive(lease)
          if (known === undefined) return undefined
        }
        const renews = known ? Effect.succeed(known) : keepAlive(lease)
        const [answer, renewal] = yield* Effect.all([request(lease.id), renews], { concurrency: 2 })
        return (yield* isRenewedIn(BigInt(answer.header.raft_term), lease, renewal)) ? answer : undefined
      }).pipe(Effect.catchIf(isLeaseNotFound, () => Effect.undefined)),

    renew: (lease) => Effect.map(keepAlive(lease), (renewal) => renewal !== undefined),

    keep: (lease) => {
      if (!lease.isUsable || !lives(lease)) return
      free.push(lease)
      if (free.length <= mostFree) return
      const oldest = free.shift()!
      surplus.add(oldest)
      Effect.runFork(Effect.map(revokeAll([oldest]), () => surplus.delete(oldest)))
    },

    revoke: ({ id }) => store.revoke(id)
  }
})
