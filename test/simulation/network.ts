/** The network. Each request to the store has a fate, drawn from the seed and from what it asks for. */
import { Effect, Exit } from "effect"
import type { FencingToken, SemaphoreBackingError } from "../../src/core/Backing.ts"
import type { Checker } from "./checker.ts"
import type { Core } from "./core.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import { Random } from "./random.ts"
import type { World } from "./world.ts"

/** One of the acquisitions that a request is for. */
export interface Subject {
  readonly key: string
  readonly id: string
}

export interface Request<A> {
  readonly process: Process
  readonly operation: string
  readonly subjects: ReadonlyArray<Subject>
  readonly token?: FencingToken | undefined
  /** B12: the milliseconds after which it may have no effect. */
  readonly within?: number | undefined
  readonly perform: () => A
}

type Failure = "refused" | "defect" | "interrupted"

interface Fate {
  /** Whether it is a fate of good days. */
  readonly calm: boolean
  /** Milliseconds until it arrives. */
  readonly there: number
  /** Milliseconds until its answer is back, or until it fails. */
  readonly back: number
  readonly arrives: boolean
  /** How it ends without an answer: it `hangs` if it never ends. */
  readonly fails: Failure | "hangs" | undefined
  /** Whether it fails before it arrives. */
  readonly early: boolean
  /** Milliseconds until it arrives again, before it is answered. */
  readonly again: number | undefined
  readonly deaf: boolean
}

/** A driver that does not answer an interruption gives up after this time. */
const deafMillis = 20_000

export class Network {
  frozen = false
  down: "refuses" | "hangs" | undefined
  /** Keys whose part of the store is down. */
  readonly broken = new Set<string>()
  /** Processes that can't reach the store. */
  readonly cut = new Set<Process>()
  /** Whether nothing goes wrong any more. */
  calm = false
  private connection = 0
  private readonly world: World
  private readonly checker: Checker
  private readonly core: Core
  private readonly plan: Plan
  private readonly omitted: ReadonlySet<string>
  private readonly waiting: Array<() => void> = []
  private readonly requests = new Map<string, number>()
  private readonly lastArrival = new Map<Process, number>()
  private readonly lastAnswer = new Map<Process, number>()
  /** Fates that were not calm, by name. */
  readonly fates: Array<string> = []

  constructor(world: World, checker: Checker, core: Core, plan: Plan, omitted: ReadonlySet<string>) {
    this.world = world
    this.checker = checker
    this.core = core
    this.plan = plan
    this.omitted = omitted
  }

  /** Thaws the store: it answers what it was sent meanwhile. */
  thaw(): void {
    this.frozen = false
    for (const arrive of this.waiting.splice(0)) arrive()
  }

  /** Ends all connections. */
  disconnect(): void {
    this.connection++
    this.waiting.length = 0
  }

  send<A>(request: Request<A>): Effect.Effect<A, SemaphoreBackingError> {
    return Effect.suspend(() => {
      const { name, ...fate } = this.drawFate(request)
      if (!fate.calm) {
        this.fates.push(name)
        const onlySlow = fate.fails === undefined && fate.arrives && fate.again === undefined
        this.checker.touch(request.subjects, `fate ${name}`, onlySlow)
      }
      const effect = this.sendWith(request, fate, name)
      return fate.deaf ? Effect.uninterruptible(effect) : effect
    })
  }

  private sendWith<A>(request: Request<A>, fate: Fate, name: string): Effect.Effect<A, SemaphoreBackingError> {
    const { checker, world } = this
    const { process, subjects } = request
    return Effect.callback<A, SemaphoreBackingError>((resume) => {
      const sent = world.now
      const { connection } = this
      const { leaps } = process.clock
      let open = true
      world.coverage.count(`request: ${request.operation}`)
      world.tell(() =>
        `${process.name} sends ${describe(request)} (${name}${fate.calm ? "" : `: ${describeFate(fate)}`})`
      )

      const end = (exit: Exit.Exit<A, SemaphoreBackingError>, byDriver = false) => {
        if (!open || this.cut.has(process) && !byDriver) return
        open = false
        world.tell(() => `${process.name} hears of ${name}: ${describeExit(exit)}`)
        checker.answered(request, exit)
        resume(exit)
      }
      const endIn = (millis: number, exit: () => Exit.Exit<A, SemaphoreBackingError>, inOrder = false) => {
        const time = inOrder ? this.inOrder(this.lastAnswer, process, millis) : world.now + millis
        world.at(time, process, () => end(exit()))
      }
      const fail = (how: Failure, why: string) => endIn(fate.back, () => this.failure(request, how, why))

      let isFirst = true
      const arrive = (isLast: boolean): void => {
        if (connection !== this.connection) {
          checker.touch(subjects, "the connection broke")
          return fail("refused", "the connection broke")
        }
        if (this.cut.has(process)) return checker.touch(subjects, "the process is cut off")
        // If its clock leaps, a lease ends too early for a process: an earlier release could meet its next hold.
        if (request.operation === "release" && process.clock.leaps !== leaps) {
          return checker.touch(subjects, "the clock of the process leapt")
        }
        if (this.frozen) {
          checker.touch(subjects, "the store is frozen")
          return void this.waiting.push(() => arrive(isLast))
        }
        if (this.down !== undefined || subjects.some(({ key }) => this.broken.has(key))) {
          checker.touch(this.down ? subjects : subjects.filter(({ key }) => this.broken.has(key)), "the store is down")
          // Each hold that shares the request gets another attempt, unless its policy has none.
          checker.touchAll(
            "it shares a failed request",
            ({ id, key, user }) =>
              user.failurePolicy === "none" && subjects.some((subject) => subject.id === id && subject.key === key)
          )
          if (this.down !== "hangs") fail("refused", "the store is down")
          return
        }
        if (request.within !== undefined && world.now > sent + request.within) {
          world.coverage.count("late: an acquire that came too late had no effect")
          world.tell(() => `${name} comes too late to have an effect`)
          return fail("refused", "too late")
        }
        if (!open) world.coverage.count(`late: ${request.operation} landed after it was given up`)
        world.tell(() => `${name} lands`)
        const answer = request.perform()
        // The second arrival may be as late as that of a request that was given up.
        checker.landed(request, open && isFirst, fate.deaf)
        isFirst = false
        if (!isLast) return
        if (fate.fails === undefined) {
          endIn(
            fate.back,
            () => connection === this.connection ? Exit.succeed(answer) : this.failure(request, "refused", "broke"),
            fate.calm
          )
        } else if (fate.fails !== "hangs") fail(fate.fails, "no answer")
      }
      if (fate.early && fate.fails !== undefined && fate.fails !== "hangs") fail(fate.fails, "the connection was reset")

      if (fate.arrives) {
        world.at(
          fate.calm ? this.inOrder(this.lastArrival, process, fate.there) : world.now + fate.there,
          undefined,
          () => arrive(fate.again === undefined)
        )
        if (fate.again !== undefined) world.after(fate.there + fate.again, undefined, () => arrive(true))
      } else if (fate.fails !== "hangs") fail(fate.fails ?? "refused", "not sent")
      if (fate.deaf) {
        world.after(deafMillis, process, () => end(this.failure(request, "refused", "the driver gave up"), true))
      }
      checker.sent(request)
      return Effect.sync(() => {
        if (!open) return
        open = false
        checker.givenUp(request)
        world.tell(() => `${process.name} gives up ${name}`)
      })
    })
  }

  /** Returns a time that keeps the order of what a connection carries. */
  private inOrder(last: Map<Process, number>, process: Process, millis: number): number {
    const time = Math.max(this.world.now + millis, last.get(process) ?? 0)
    last.set(process, time)
    return time
  }

  private failure(request: Request<unknown>, how: Failure, why: string): Exit.Exit<never, SemaphoreBackingError> {
    if (how === "defect") return Exit.die(new Error("defect of the driver"))
    if (how === "interrupted") return Exit.interrupt()
    return Exit.fail(new this.core.Backing.SemaphoreBackingError({ operation: request.operation, cause: why }))
  }

  private drawFate({ operation, process, subjects: [subject] }: Request<unknown>): Fate & { readonly name: string } {
    const of = `${process.name} ${operation} ${subject?.key ?? ""} ${subject?.id ?? ""}`
    const count = this.requests.get(of) ?? 0
    this.requests.set(of, count + 1)
    const name = `${of} #${count}`
    const random = new Random(`${this.plan.seed} ${name}`)
    const calm = { there: random.between(0.1, 2), back: random.between(0.1, 2) }
    const fine: Fate = {
      ...calm,
      calm: true,
      arrives: true,
      fails: undefined,
      again: undefined,
      early: false,
      deaf: false
    }
    if (this.calm || this.omitted.has(name)) return { name, ...fine }
    const { network } = this.plan
    const failure = (): Failure | "hangs" | undefined =>
      random.chance(network.refused)
        ? "refused"
        : random.chance(network.defect)
        ? "defect"
        : random.chance(network.interrupted)
        ? "interrupted"
        : random.chance(network.unanswered)
        ? "hangs"
        : undefined
    const late = () => random.logBetween(1, 20_000)
    const slow = random.chance(network.slow)
    const arrives = !random.chance(network.lost)
    const fails = arrives ? failure() : random.pick(["hangs", "refused"] as const)
    const early = arrives && fails !== undefined && fails !== "hangs" && random.chance(0.3)
    const again = arrives && random.chance(network.doubled) ? late() / 10 : undefined
    const deaf = random.chance(network.deaf)
    if (!slow && arrives && fails === undefined && again === undefined && !deaf) return { name, ...fine }
    const there = slow ? random.pick([calm.there, late()]) : calm.there
    const back = slow ? random.pick([calm.back, late()]) : calm.back
    const fate = { there: early ? late() / 20 : there, back, arrives, fails, early, again, deaf }
    const { coverage } = this.world
    if (slow) coverage.count("fate: slow")
    if (!arrives) coverage.count("fate: request lost")
    if (fails !== undefined) {
      coverage.count(
        `fate: ${fails === "hangs" ? "no answer" : fails}${
          early ? " before its effect" : arrives ? " after its effect" : ""
        }`
      )
    }
    if (again !== undefined) coverage.count("fate: doubled")
    if (deaf) coverage.count("fate: does not answer an interruption")
    return { name, ...fate, calm: false }
  }
}

const describe = ({ operation, subjects, token }: Request<unknown>) =>
  `${operation} ${subjects.map(({ id, key }) => `${key}/${id}`).join(", ")}${
    token === undefined ? "" : ` token ${token}`
  }`

const describeFate = ({ again, arrives, back, deaf, fails, there }: Fate) =>
  [
    arrives ? `there in ${there.toFixed(1)}` : "lost",
    fails ?? `back in ${back.toFixed(1)}`,
    ...again === undefined ? [] : [`again after ${again.toFixed(1)}`],
    ...deaf ? ["deaf to interruption"] : []
  ].join(", ")

export const describeExit = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isFailure(exit)) {
    return exit.cause.reasons.map((reason) =>
      reason._tag === "Fail" ? show(reason.error) : reason._tag === "Die" ? `defect ${reason.defect}` : "interruption"
    ).join(" and ")
  }
  return show(exit.value)
}

const show = (value: unknown): string => {
  if (value instanceof Error) return `${(value as { _tag?: string })._tag ?? value.name}: ${value.message}`
  return JSON.stringify(value, (_, value: unknown) => typeof value === "bigint" ? String(value) : value) ?? "nothing"
}
