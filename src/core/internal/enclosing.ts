/**
 * The leases under which a fiber runs, by `withPermits`.
 *
 * A fiber that waits for permits which only it could give back waits for ever. Only the fiber itself is looked at: what it
 * forks may wait for it to end, and a time limit runs its effect in a fiber of its own.
 */
import { Context, Effect, Fiber } from "effect"
import type { DistributedSemaphoreBacking } from "../Backing.ts"
import type { Lease } from "../Lease.ts"

interface Enclosing {
  readonly backing: DistributedSemaphoreBacking
  readonly lease: Lease["Service"]
  /** The fiber that acquired the permits, and waits for the one that runs under their lease. */
  readonly outerFiber: number
  readonly innerFiber: number
  readonly outer: Enclosing | undefined
}

const Enclosing = Context.Reference<Enclosing | undefined>("effect-distributed-lock/internal/Enclosing", {
  defaultValue: () => undefined
})

/** Runs an effect under a lease that `outerFiber` has acquired. */
export const provide = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  backing: DistributedSemaphoreBacking,
  lease: Lease["Service"],
  outerFiber: number
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber: Fiber.Fiber<unknown, unknown>) =>
    Effect.provideService(effect, Enclosing, {
      backing,
      lease,
      outerFiber,
      innerFiber: fiber.id,
      outer: fiber.getRef(Enclosing)
    })
  )

/** The leases of a key that the calling fiber runs under. */
export const leases = (backing: DistributedSemaphoreBacking, key: string): Effect.Effect<Array<Lease["Service"]>> =>
  Effect.withFiber((fiber: Fiber.Fiber<unknown, unknown>) => {
    const found: Array<Lease["Service"]> = []
    let runsIn = fiber.id
    for (let e = fiber.getRef(Enclosing); e !== undefined && e.innerFiber === runsIn; e = e.outer) {
      if (e.backing === backing && e.lease.key === key) found.push(e.lease)
      runsIn = e.outerFiber
    }
    return Effect.succeed(found)
  })
