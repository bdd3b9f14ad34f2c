/** One run: the world of a plan, played to its end and judged. */
import { Context, Effect } from "effect"
import type { Violation } from "./checker.ts"
import { Checker } from "./checker.ts"
import type { Core } from "./core.ts"
import { Coverage } from "./coverage.ts"
import * as Globals from "./globals.ts"
import { Link } from "./link.ts"
import { Network } from "./network.ts"
import type { Plan, UserPlan } from "./plan.ts"
import { Process } from "./process.ts"
import { Random } from "./random.ts"
import { Store } from "./store.ts"
import * as Troubles from "./troubles.ts"
import { User } from "./users.ts"
import { World } from "./world.ts"

export interface Result {
  readonly violation: Violation | undefined
  readonly events: number
  readonly coverage: Coverage
  /** The names of the requests that fared badly. */
  readonly fates: ReadonlyArray<string>
  readonly story: ReadonlyArray<string>
}

/** A run with more events than this never ends. */
const mostEvents = 500_000

/** Subscriptions outlive their last waiter by a minute. */
const idleMillis = 61_000

export const simulate = (core: Core, plan: Plan, omitted: ReadonlySet<string> = new Set(), tells = false): Result => {
  const story: Array<string> = []
  const coverage = new Coverage()
  const world = new World(coverage, tells ? story : undefined)
  const run = new Run(world, core, plan, omitted)
  Globals.replaced(world, () => run.play())
  return {
    violation: run.checker.violation,
    events: run.eventsOfUsers,
    coverage,
    story,
    fates: run.network.fates
  }
}

/** A run under way. */
export class Run {
  readonly world: World
  readonly core: Core
  readonly plan: Plan
  readonly checker: Checker
  readonly store: Store
  readonly network: Network
  readonly processes: ReadonlyArray<Process>
  readonly links: ReadonlyArray<Link>
  readonly users: Array<User> = []
  readonly disposed = new Set<Process>()
  /** How many events there were until all users had ended. After that, the run only waits. */
  eventsOfUsers = 0
  /** The process that uses an identifier. */
  private readonly claims = new Map<string, Process>()
  /** How many users have not begun. */
  private toCome: number

  constructor(world: World, core: Core, plan: Plan, omitted: ReadonlySet<string>) {
    this.world = world
    this.core = core
    this.plan = plan
    this.checker = new Checker(world, () => this.store)
    this.store = new Store(world, plan.grants, this.checker)
    this.network = new Network(world, this.checker, core, plan, omitted)
    this.processes = plan.processes.map((process) => new Process(world, plan.seed, process))
    this.links = this.processes.map((process) => new Link(world, this.store, this.network, this.checker, plan, process))
    this.toCome = plan.users.length
    for (const user of plan.users) world.at(user.at, undefined, () => this.enter(user))
    for (const trouble of plan.troubles) world.at(trouble.at, undefined, () => Troubles.begin(this, trouble))
    this.interruptAtMoments()
  }

  play(): void {
    const { checker, plan, world } = this
    const longest = Math.max(
      0,
      ...plan.users.map(({ ttl, works }) => Math.max(ttl, Number.isFinite(works) ? works : 0))
    )
    try {
      world.at(plan.horizon, undefined, () => this.calmDown())
      const latest = plan.horizon + longest * 300 + 120_000
      this.advance(() => world.now >= plan.horizon && this.hasEnded, latest, "some users never end")
      this.eventsOfUsers = world.events
      if (checker.violation !== undefined) return
      this.buryTheDead()
      const end = world.now + idleMillis + longest * 3
      this.advance(() => this.world.nextTime() === undefined, end, "something goes on when everybody has ended")
      this.checkNothingIsLeft(longest)
    } catch (error) {
      checker.fail("errors", error instanceof Error ? error.stack ?? error.message : String(error))
    }
  }

  private get hasEnded(): boolean {
    return this.toCome === 0 &&
      this.users.every(({ fiber, process }) => process.state === "dead" || fiber?.pollUnsafe() !== undefined)
  }

  private advance(isDone: () => boolean, latest: number, otherwise: string): void {
    const { checker, world } = this
    while (checker.violation === undefined && !isDone()) {
      const next = world.nextTime()
      if (next === undefined || next > latest || world.events > mostEvents) {
        return checker.fail("L4", `${otherwise}${world.events > mostEvents ? `: ${world.events} events` : ""}`)
      }
      world.now = next
      checker.checkBeliefs()
      world.step()
      checker.checkBeliefs()
      checker.checkDue()
    }
  }

  private enter(plan: UserPlan): void {
    this.toCome--
    const process = this.processes[plan.process]!
    if (process.state === "dead" || this.disposed.has(process)) return
    const identity = this.identify(plan, process)
    const held = identity.external ? this.store.find(plan.key, identity.identifier)?.permits : undefined
    const user = new User(this, { ...plan, permits: held ?? plan.permits }, process, identity)
    this.users.push(user)
    const context = Context.add(
      process.context,
      this.core.Backing.DistributedSemaphoreBacking,
      this.links[plan.process]!.backing
    )
    process.deliver(() => user.start(context))
    if (plan.interrupt !== undefined && "after" in plan.interrupt) {
      this.world.after(plan.interrupt.after, undefined, () => user.interrupt())
    }
  }

  /** An identifier belongs to one process. Another one may use it only when that has died. */
  private identify({ external, name, sharesWith }: UserPlan, process: Process) {
    const claim = sharesWith === undefined ? undefined : this.claims.get(sharesWith)
    const shares = claim !== undefined && (claim === process || claim.state === "dead")
    const identifier = shares ? sharesWith! : name
    this.claims.set(identifier, process)
    const shared = shares || this.plan.users.some((other) => other.sharesWith === name)
    return { identifier, external: shares && external, shared }
  }

  private interruptAtMoments(): void {
    const seen = new Map<string, number>()
    this.checker.onMoment = (use, moment) => {
      const { interrupt, name } = use.user
      if (interrupt === undefined || !("on" in interrupt) || interrupt.on !== moment) return
      seen.set(name, (seen.get(name) ?? 0) + 1)
      if (seen.get(name) !== interrupt.nth) return
      const user = this.users.find(({ plan }) => plan.name === name)!
      // Nobody interrupts in the middle of the driver's own call.
      const atOnce = moment !== "sent" && new Random(`${this.plan.seed} ${name} at once`).chance(0.5)
      if (atOnce) user.interrupt()
      else this.world.after(0, undefined, () => user.interrupt())
    }
  }

  /** Ends all troubles, and all work without end. */
  private calmDown(): void {
    this.world.tell(() => "the troubles end")
    this.network.calm = true
    Troubles.endAll(this)
    for (const user of this.users) if (!Number.isFinite(user.plan.works)) user.interrupt()
  }

  /** Lets dead processes go on, cut off from the store, until they end: nothing may be left in their memory, either. */
  private buryTheDead(): void {
    for (const process of this.processes.filter(({ state }) => state === "dead")) {
      this.network.cut.add(process)
      process.resume()
      for (const user of this.users.filter((user) => user.process === process)) {
        if (user.fiber !== undefined) process.interrupt(user.fiber)
      }
    }
    this.world.settle()
  }

  private checkNothingIsLeft(longest: number): void {
    const { checker, core, links, processes, store, world } = this
    if (checker.violation !== undefined) return
    world.now += longest * 2
    for (const key of store.keys) {
      const left = store.line(key).map(({ id }) => id)
      if (left.length > 0) checker.fail("L4", `${left.join()} of ${key} is left in the store at the end`)
    }
    for (const [index, { context, fibers, name }] of processes.entries()) {
      const keeper = Effect.runSyncWith(context)(core.Keeper.of(links[index]!.backing))
      const { alarms, contenders, idleSubscriptions, subscriptions } = keeper as unknown as Record<
        "alarms" | "contenders" | "idleSubscriptions" | "subscriptions",
        Set<unknown>
      >
      const left = { contenders, alarms, subscriptions, idleSubscriptions }
      for (const [what, { size }] of Object.entries(left)) {
        if (size > 0) checker.fail("L4", `${size} ${what} are left in the keeper of ${name}`)
      }
      if (fibers !== 0) checker.fail("L4", `${fibers} fibers of ${name} never end`)
    }
    if (Globals.isAwake()) checker.fail("L4", "something keeps the process alive")
  }
}
