/** Users of the semaphore: what each does with it, from its plan. */
import { Context, Effect, Fiber, Schedule } from "effect"
import type { DistributedSemaphoreBacking } from "../../src/core/Backing.ts"
import type { DistributedSemaphore } from "../../src/core/DistributedSemaphore.ts"
import type { Lease } from "../../src/core/Lease.ts"
import type { Checker } from "./checker.ts"
import type { Core } from "./core.ts"
import { describeExit } from "./network.ts"
import type { FailurePolicy, Plan, UserPlan, WaitingPolicy } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Use } from "./uses.ts"
import { newUse } from "./uses.ts"
import type { World } from "./world.ts"

/** The identifier that `crypto.randomUUID` gives to the acquisition of a fiber. */
export const Uuid = Context.Reference<string>("simulation/Uuid", { defaultValue: () => "nobody" })

export interface Site {
  readonly world: World
  readonly core: Core
  readonly plan: Plan
  readonly checker: Checker
}

/** A user in a process, with the fiber that runs it. */
export class User {
  readonly plan: UserPlan
  readonly process: Process
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  private interrupted = false
  private readonly site: Site
  /** Its identifier. If it is `external`, the hold exists already. */
  private readonly identifier: string
  private readonly external: boolean
  private readonly shared: boolean

  constructor(site: Site, plan: UserPlan, process: Process, { external, identifier, shared }: Identity) {
    this.site = site
    this.plan = plan
    this.process = process
    this.identifier = identifier
    this.external = external
    this.shared = shared
  }

  start(context: Context.Context<DistributedSemaphoreBacking>): void {
    this.fiber = Effect.runForkWith(context)(this.run as Effect.Effect<unknown>)
  }

  /** Interrupts it from outside, whatever it does. */
  interrupt(): void {
    const { fiber, process, site: { checker, world } } = this
    if (fiber === undefined || fiber.pollUnsafe() !== undefined) return
    this.interrupted = true
    world.coverage.count("user: interrupted")
    world.tell(() => `${this.plan.name} is interrupted`)
    for (const use of checker.uses) if (use.user === this.plan) checker.interrupt(use)
    process.interrupt(fiber)
  }

  private get run(): Effect.Effect<void, unknown, unknown> {
    const { external, identifier, plan } = this
    const cycle = (index: number): Effect.Effect<void, unknown, unknown> =>
      Effect.suspend(() => {
        const id = plan.uuid && index > 0 ? `${identifier}~${index}` : identifier
        const once = Effect.exit(this.once(plan.key, plan.limit, plan.permits, id, external && index === 0, undefined))
        return index >= plan.cycles ? Effect.void : Effect.andThen(once, cycle(index + 1))
      })
    return cycle(0)
  }

  /** Makes one acquisition, which the checker judges. */
  private once(
    key: string,
    limit: number,
    permits: number,
    id: string,
    external: boolean,
    outer: Use | undefined
  ): Effect.Effect<unknown, unknown, unknown> {
    const { plan, process, shared, site: { checker, world } } = this
    return Effect.flatMap(this.make(key, limit), (semaphore) => {
      // The checker sees both beginning and end, however the user is interrupted.
      const used = Effect.uninterruptibleMask((restore) => {
        const use = newUse(plan, process, {
          key,
          id,
          permits,
          shared: shared || external,
          external,
          outer,
          interrupted: this.interrupted,
          mayEndFrom: outer?.mayEndFrom ?? world.now + (plan.timeout ?? Number.POSITIVE_INFINITY) * 0.98
        })
        checker.begin(use)
        world.coverage.count(`user: ${external ? "resumes" : plan.asks}${outer === undefined ? "" : ", nested"}`)
        world.tell(() =>
          `${plan.name} of ${process.name}: ${plan.asks} ${permits} of ${limit} of ${key} as ${id}${
            external ? ", externally" : ""
          }`
        )
        const options = { acquiredExternally: external, ...plan.uuid && !external && !shared ? {} : { identifier: id } }
        const asked = Effect.provideService(this.ask(semaphore, use, options, outer), Uuid, id)
        const timed = plan.timeout === undefined || outer !== undefined ? asked : this.inTime(asked, plan.timeout, use)
        return Effect.onExit(restore(timed), (exit) =>
          Effect.sync(() => {
            world.tell(() => `${id} ends: ${describeExit(exit)}`)
            checker.end(use, exit)
          }))
      })
      return plan.looks
        ? Effect.andThen(Effect.exit(Effect.andThen(semaphore.currentCount, semaphore.inspect)), used)
        : used
    })
  }

  private inTime(effect: Effect.Effect<unknown, unknown, unknown>, millis: number, use: Use) {
    const { process, site: { checker, world } } = this
    const { disturbances } = process
    world.after(millis * 1.02 + 3, process, () => {
      if (checker.uses.has(use) && process.disturbances === disturbances) checker.interrupt(use)
    })
    return Effect.timeoutOption(effect, millis)
  }

  private make(key: string, limit: number): Effect.Effect<DistributedSemaphore, unknown, unknown> {
    const { core, plan: { horizon } } = this.site
    const { failurePolicy, refreshInterval, ttl, waitingPolicy } = this.plan
    return core.DistributedSemaphore.make(key, {
      limit,
      ttl,
      refreshInterval,
      acquireRetryPolicy: waitingPolicies(waitingPolicy, horizon),
      backingFailureRetryPolicy: failurePolicies(failurePolicy, horizon)
    })
  }

  private ask(
    semaphore: DistributedSemaphore,
    use: Use,
    options: { readonly identifier?: string; readonly acquiredExternally: boolean },
    outer: Use | undefined
  ): Effect.Effect<unknown, unknown, unknown> {
    const { asks, joins } = this.plan
    const { permits } = use
    const { core } = this.site
    const underLease = Effect.flatMap(core.Lease, (lease) => this.work(use, lease, true, outer))
    const fiberOf = (keepAlive: Fiber.Fiber<never, unknown>, lease?: Lease["Service"]) => {
      const work = this.work(use, lease, joins, outer)
      return joins ? Effect.raceFirst(work, Fiber.join(keepAlive)) : work
    }
    if (outer !== undefined) return semaphore.withPermits(permits, options)(underLease)
    switch (asks) {
      case "withPermits":
      case "withPermitsIfAvailable":
        return semaphore[asks](permits, options)(underLease)
      case "takeLease":
        return Effect.scoped(
          Effect.flatMap(semaphore.takeLease(permits, options), (lease) => fiberOf(lease.keepAlive, lease))
        )
      case "take":
        return Effect.scoped(Effect.flatMap(semaphore.take(permits, options), (fiber) => fiberOf(fiber)))
      case "tryTake":
        return Effect.scoped(Effect.flatMap(
          semaphore.tryTake(permits, options),
          (taken) => taken._tag === "Some" ? fiberOf(taken.value) : Effect.void
        ))
    }
  }

  private work(
    use: Use,
    lease: Lease["Service"] | undefined,
    guarded: boolean,
    outer: Use | undefined
  ): Effect.Effect<unknown, unknown, unknown> {
    const { plan: { ends, nested, stopsKeepAlive, works }, site: { checker, world } } = this
    const sleep = Number.isFinite(works) ? Effect.sleep(works) : Effect.never
    const stopped = stopsKeepAlive && lease !== undefined
      ? Effect.andThen(Effect.sleep(1), Effect.andThen(Fiber.interrupt(lease.keepAlive), sleep))
      : sleep
    const inner = nested === undefined || outer !== undefined
      ? stopped
      : Effect.andThen(Effect.exit(this.nest(nested, use)), stopped)
    const ended = ends === "fails"
      ? Effect.fail("failure of the work")
      : ends === "dies"
      ? Effect.die(new Error("defect of the work"))
      : Effect.void
    return Effect.acquireUseRelease(
      Effect.withFiber((fiber) => {
        world.tell(() => `${use.id} works, with ${lease === undefined ? "no lease" : String(lease.fencingToken)}`)
        checker.believe(use, lease, guarded ? fiber : undefined)
        checker.onMoment(use, "working")
        return Effect.void
      }),
      () => Effect.andThen(inner, ended),
      () =>
        Effect.sync(() => {
          world.tell(() => `${use.id} stops working`)
          checker.doneWorking(use)
        })
    )
  }

  /** Two users that hold and wait for each other would wait for ever, so the user is interrupted. */
  private nest({ key, limit, permits }: NonNullable<UserPlan["nested"]>, outer: Use) {
    const { process, site: { world } } = this
    let over = false
    world.after(this.plan.ttl * 3, process, () => {
      if (!over) this.interrupt()
    })
    const ended = Effect.sync(() => {
      over = true
    })
    return Effect.ensuring(this.once(key, limit, permits, `${outer.id}+`, false, outer), ended)
  }
}

export interface Identity {
  readonly identifier: string
  readonly external: boolean
  readonly shared: boolean
}

const waitingPolicies = (policy: WaitingPolicy, horizon: number): Schedule.Schedule<unknown> | undefined => {
  const spaced = Schedule.spaced(Math.max(5, horizon / 100))
  switch (policy) {
    case "default":
      return undefined
    case "none":
      return Schedule.recurs(0)
    case "ends":
      return Schedule.upTo(spaced, { times: 3 })
    case "spaced":
      return spaced
    case "dies":
      return dying(spaced)
  }
}

const failurePolicies = (policy: FailurePolicy, horizon: number): Schedule.Schedule<unknown> | undefined => {
  switch (policy) {
    case "default":
      return undefined
    case "none":
      return Schedule.recurs(0)
    case "twice":
      return Schedule.recurs(2)
    case "spaced":
      return Schedule.upTo(Schedule.spaced(Math.max(5, horizon / 50)), { times: 10 })
    case "for ever":
      return Schedule.spaced(Math.max(5, horizon / 300))
    case "dies":
      return dying(Schedule.spaced(Math.max(5, horizon / 100)))
  }
}

const dying = (schedule: Schedule.Schedule<unknown>) =>
  Schedule.while(schedule, ({ attempt }) => {
    if (attempt > 2) throw new Error("defect of the policy")
    return true
  })
