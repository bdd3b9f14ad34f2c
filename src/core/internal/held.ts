/** The owner's side of a hold: its lease, and the effect that runs under it. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import type { FencingToken } from "../Backing.ts"
import type { LockLostError, SemaphoreBackingError } from "../Errors.ts"
import { Lease } from "../Lease.ts"
import type { Contender } from "./contender.ts"
import * as Observation from "./observation.ts"
import { giveBack, giveBackBriefly } from "./requests.ts"

type KeepAlive = Fiber.Fiber<never, LockLostError | SemaphoreBackingError>

type AnyFiber = Fiber.Fiber<unknown, unknown>

export class Held extends Inspectable.Class {
  readonly key: string
  readonly identifier: string
  readonly permits: number
  readonly fencingToken: Option.Option<FencingToken>
  readonly contender: Contender
  /** The lease that the acquiring fiber worked under. */
  readonly outer: Held | undefined
  readonly outerFiber: number
  /** The fiber of the effect that runs under this lease; the outer fiber waits for it. */
  private innerFiber: number | undefined
  private fiber: KeepAlive | undefined

  constructor(contender: Contender, owner: AnyFiber) {
    super()
    this.key = contender.config.key
    this.identifier = contender.request.identifier
    this.permits = contender.request.permits
    this.fencingToken = Option.fromUndefinedOr(contender.token)
    this.contender = contender
    const outer = leaseOf(owner)
    this.outer = outer?.isUsedBy(owner.id) ? outer : undefined
    this.outerFiber = owner.id
  }

  /** The fiber is started when it is first asked for. Interrupting it ends the refreshes. */
  get keepAlive(): KeepAlive {
    return this.fiber ??= this.contender.keeper.run(
      Effect.callback<never, LockLostError | SemaphoreBackingError>((resume) => {
        const forget = this.contender.listen(resume)
        return Effect.sync(() => {
          forget()
          this.contender.letRunOut()
        })
      })
    )
  }

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.sync(() => Duration.millis(Math.floor(this.contender.millisLeft())))
  }

  /** A log must show neither the client of the store nor anything else of the process. */
  toJSON() {
    const { fencingToken, identifier, key, permits } = this
    return { _id: "Lease", key, identifier, permits, fencingToken: Option.getOrUndefined(fencingToken) }
  }

  isUsedBy(fiber: number): boolean {
    return this.innerFiber === fiber
  }

  /** Runs an effect until the hold is lost. Like a race, it waits for the finalizers of the effect. */
  use<A, E, R>(
    effect: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | LockLostError | SemaphoreBackingError, Exclude<R, Lease>> {
    return Effect.withFiber((owner: AnyFiber) =>
      Effect.callback<A, E | LockLostError | SemaphoreBackingError>((resume) => {
        const context = Context.add(owner.context as Context.Context<R>, Lease, this)
        const work = Effect.withFiber((fiber: AnyFiber) => {
          this.innerFiber = fiber.id
          return effect
        })
        const child = Effect.runForkWith(context)(work)
        const exit = child.pollUnsafe()
        const { loss } = this.contender
        if (exit !== undefined) return resume(loss === undefined ? exit : withDefects(loss, exit))
        let forget = () => {}
        const forgetChild = child.addObserver((exit) => {
          forget()
          resume(exit)
        })
        // What the effect has done so far may have lost the hold: then this calls back at once.
        forget = this.contender.listen((end) => {
          forgetChild()
          child.addObserver((exit) => resume(withDefects(end, exit)))
          child.interruptUnsafe(owner.id)
        })
        return Effect.suspend(() => {
          forget()
          child.interruptUnsafe(owner.id)
          return Effect.flatMap(Fiber.await(child), (exit) => withDefects(Exit.void, exit))
        })
      })
    )
  }

  /** Gives the permits back. After a loss it does not wait for the store, which may be in trouble. */
  get close(): Effect.Effect<void> {
    return Effect.withFiber((fiber: AnyFiber) => {
      const { contender } = this
      if (contender.loss !== undefined) return Effect.sync(() => giveBack(contender, () => {}))
      contender.end(Exit.interrupt())
      return Observation.release(contender, fiber, giveBackBriefly(contender))
    })
  }
}

/** Adds the defects of an interrupted effect, whose finalizers may have died. */
const withDefects = <A, E>(exit: Exit.Exit<A, E>, interrupted: Exit.Exit<unknown, unknown>): Exit.Exit<A, E> => {
  const defects = Exit.isFailure(interrupted) ? interrupted.cause.reasons.filter(Cause.isDieReason) : []
  if (defects.length === 0) return exit
  return Exit.failCause(Cause.fromReasons<E>([...Exit.isFailure(exit) ? exit.cause.reasons : [], ...defects]))
}

const leaseOf = (fiber: AnyFiber): Held | undefined => {
  const lease = Option.getOrUndefined(Context.getOption(fiber.context, Lease))
  return lease instanceof Held ? lease : undefined
}

/**
 * Returns the leases of a key that a fiber itself works under, by `withPermits`. Those of its parent do not count: a forked fiber
 * may well wait until its parent has released, and one that `Effect.timeout` has forked does not wait for ever.
 */
export const leasesOf = (fiber: AnyFiber, { config: { key }, keeper }: Contender): ReadonlyArray<Held> => {
  const found: Array<Held> = []
  let runsIn = fiber.id
  for (let lease = leaseOf(fiber); lease !== undefined && lease.isUsedBy(runsIn); lease = lease.outer) {
    const { contender } = lease
    const holds = contender.loss === undefined && contender.name.isOwn
    if (holds && lease.key === key && contender.keeper === keeper) found.push(lease)
    runsIn = lease.outerFiber
  }
  return found
}
