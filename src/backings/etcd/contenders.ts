/**
 * What this process did in etcd for each contender, a holder or waiter of a key: on which leases, with what success. So it
 * can release without a look, and use the leases again.
 */
import { Effect, Exit, Semaphore } from "effect"
import type { Lease, Leases } from "./leases.ts"
import * as L from "./leases.ts"
import type { ContenderNames } from "./names.ts"
import type { Hold, Place } from "./view.ts"

export interface Contender {
  /** All that its hold and its place may be on. */
  readonly leases: Set<Lease>
  hold: Hold | undefined
  place: Place | undefined
  /** They go one after another, so that we know what is on which lease. */
  readonly turn: Semaphore.Semaphore
  /** How many operations are under way, or wait for their turn. */
  operations: number
  /**
   * Whether an operation has failed, or was repeated. Then hold and place may be others than we know, and something may still
   * be on its way that must find its lease gone.
   */
  isDoubtful: boolean
}

export interface Contenders {
  /** Does an operation of a contender. */
  readonly operate: <A>(
    names: ContenderNames,
    operation: (contender: Contender) => Effect.Effect<A, Error>
  ) => Effect.Effect<A, Error>
  /**
   * A lease that the contender has, or takes: another than those of its hold and of these, which the request must not renew.
   */
  readonly leaseOf: (
    contender: Contender,
    ttl: number,
    except: ReadonlyArray<Hold | Place | undefined>
  ) => Lease
  /** For a contender that has nothing in the store any more. */
  readonly forget: (contender: Contender) => Effect.Effect<void, Error>
}

const leastSizeToPrune = 1000

export const make = (leases: Leases): Contenders => {
  const contenders = new Map<string, Contender>()
  let sizeToPrune = leastSizeToPrune

  /** Those whose leases have expired, and that nobody released: the store was out of reach. */
  const prune = () => {
    for (const [name, { leases, operations }] of contenders) {
      if (operations === 0 && !Array.from(leases).some(L.lives)) contenders.delete(name)
    }
    sizeToPrune = Math.max(leastSizeToPrune, contenders.size * 2)
  }

  const begin = (name: string): Contender => {
    if (contenders.size >= sizeToPrune) prune()
    const contender = contenders.get(name) ?? {
      leases: new Set(),
      hold: undefined,
      place: undefined,
      turn: Semaphore.makeUnsafe(1),
      operations: 0,
      isDoubtful: false
    }
    contenders.set(name, contender)
    contender.operations++
    return contender
  }

  const keepUnused = (contender: Contender) => {
    for (const lease of contender.leases) {
      if (lease.id === contender.hold?.lease || lease.id === contender.place?.lease) continue
      contender.leases.delete(lease)
      leases.keep(lease)
    }
  }

  return {
    operate: (names, operation) => {
      const name = names.place.toString()
      return Effect.acquireUseRelease(
        Effect.sync(() => begin(name)),
        (contender) =>
          contender.turn.withPermit(Effect.onExit(operation(contender), (exit) =>
            Effect.sync(() => {
              if (Exit.isFailure(exit)) contender.isDoubtful = true
              if (!contender.isDoubtful) keepUnused(contender)
            }))),
        (contender) =>
          Effect.sync(() => {
            contender.operations--
            if (contender.operations === 0 && contender.leases.size === 0) contenders.delete(name)
          })
      )
    },

    leaseOf: (contender, ttl, except) => {
      const others = [contender.hold, ...except]
      for (const lease of contender.leases) {
        if (!lease.isUsable || lease.ttl !== ttl || others.some((entry) => entry?.lease === lease.id)) continue
        return lease
      }
      const lease = leases.take(ttl)
      contender.leases.add(lease)
      return lease
    },

    forget: (contender) =>
      Effect.gen(function*() {
        contender.hold = undefined
        contender.place = undefined
        if (!contender.isDoubtful) return
        // Nothing more is put on them: a revocation that fails may still be carried out.
        for (const lease of contender.leases) lease.isUsable = false
        yield* Effect.forEach(contender.leases, leases.revoke, { concurrency: "unbounded", discard: true })
        contender.leases.clear()
        contender.isDoubtful = false
      })
  }
}
