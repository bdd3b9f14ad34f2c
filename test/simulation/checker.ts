/**
 * Watches every step from outside: compares what the store has with what users believe, as each promise says.
 *
 * An identifier is *touched* when something went wrong with one of its requests, or with its process. Promises for good
 * days are checked only for identifiers that are not touched. Safety is checked always.
 */
import { Duration, Effect, Exit } from "effect"
import type { Fiber } from "effect"
import type { FencingToken } from "../../src/core/Backing.ts"
import type { Lease } from "../../src/core/Lease.ts"
import type { Answer, Contender } from "../../src/testing/internal/model/model.ts"
import { judge } from "./judge.ts"
import type { Request, Subject } from "./network.ts"
import type { Moment } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Gone, Store } from "./store.ts"
import type { Use } from "./uses.ts"
import type { World } from "./world.ts"

/** A promise that was broken, and how. */
export interface Violation {
  readonly promise: string
  readonly message: string
}

/** How long an end may wait for a store that does not answer, in milliseconds, even if timers and clocks are late. */
const patience = 520
/** After a suspension, the core notices only timers that are later than this. */
const lateTimer = 60
/** How long it takes a machine that wakes up to notice that a lease was over: about a second. */
const wakingUp = 1020
const slack = 30

export class Checker {
  readonly uses = new Set<Use>()
  /** Why each identifier is touched. */
  private readonly touched = new Map<string, string>()
  private readonly unaccountable = new Set<string>()
  /** How many requests of an identifier are under way, and when that changed last. */
  private readonly underWay = new Map<
    string,
    { readonly key: string; readonly id: string; count: number; since: number }
  >()
  /** Identifiers whose hold an acquisition has taken over. */
  private readonly takenOver = new Set<string>()
  /** Identifiers that two acquisitions of a process used at the same time, as after a loss that the first did not notice. */
  private readonly reused = new Set<string>()
  private readonly forgottenTokens = new Set<bigint>()
  private readonly sentAt = new WeakMap<Request<unknown>, number>()
  private readonly tokens = new Map<string, Map<bigint, string>>()
  /** Until when the store may have something of an identifier that nobody uses. */
  private readonly leftUntil = new Map<string, { readonly key: string; readonly id: string; until: number }>()
  private readonly heardTokens = new Map<string, Set<bigint>>()
  /** The first promise that was broken. */
  violation: Violation | undefined
  private readonly world: World
  private readonly store: () => Store
  /** Is called at each moment at which a user may be interrupted. */
  onMoment: (use: Use, moment: Moment) => void = () => {}

  constructor(world: World, store: () => Store) {
    this.world = world
    this.store = store
  }

  fail(promise: string, message: string): void {
    this.violation ??= { promise, message }
  }

  // Events.

  begin(use: Use): void {
    if (use.process.hasDied) return
    if (use.external) this.takenOver.add(nameOf(use))
    const isUsed = this.usesOf(use).some(({ process }) => process === use.process)
    if (isUsed) this.reused.add(nameOf(use))
    if (isUsed) this.world.coverage.count(`core: ${use.external ? "takes over" : "waits for"} an identifier in use`)
    this.uses.add(use)
    if (use.shared) this.touch([use], "its identifier is shared")
    if (use.user.stopsKeepAlive) this.touch([use], "its user stops the refreshes")
  }

  /** A user believes that it holds. Without a lease, it knows only that its work goes on. */
  believe(use: Use, lease: Lease["Service"] | undefined, work: Use["work"]): void {
    const { key } = use
    const store = this.store()
    const token = lease === undefined ? undefined : tokenOf(lease)
    this.world.coverage.count(
      `core: ${
        use.external ? "goes on with a hold" : `holds ${use.heard ? "after a notification" : `by a ${use.answeredBy}`}`
      }`
    )
    use.phase = "holds"
    use.mustAskBy = Number.POSITIVE_INFINITY
    use.lease = lease
    use.token = token
    use.work = work
    use.mustEndBy = Number.POSITIVE_INFINITY
    if (token === undefined) return
    if (!store.grants) return this.fail("S3", `${use.id} has token ${token}, of a store that has none`)
    const known = this.tokens.get(key) ?? new Map<bigint, string>()
    this.tokens.set(key, known)
    const other = known.get(token)
    if (other !== undefined && other !== use.id) return this.fail("S3", `${use.id} has token ${token}, as ${other} had`)
    known.set(token, use.id)
  }

  /** The work is over: only the release is left. */
  doneWorking(use: Use): void {
    use.work = undefined
    this.mustEnd(use)
  }

  interrupt(use: Use): void {
    use.interrupted = true
    this.mustEnd(use)
  }

  end(use: Use, exit: Exit.Exit<unknown, unknown>): void {
    const { id, key, ttl } = use
    // Its process has died: the use does not count any more.
    if (!this.uses.has(use)) return
    const before = use.phase
    use.phase = "ended"
    use.work = undefined
    this.uses.delete(use)
    const wrong = judge(use, exit, before, {
      coverage: this.world.coverage,
      isTouched: this.isTouched(use),
      has: this.store().find(use.key, use.id)
    })
    if (wrong !== undefined) this.fail("errors", wrong)
    const { now } = this.world
    const name = nameOf(use)
    if (Array.from(this.uses).some((other) => other.key === key && other.id === id)) return
    const untouched = !this.touched.has(name)
    if (untouched && this.store().find(key, id) !== undefined) {
      return this.fail("L4", `${key}/${id} has ended, without any trouble, and something of it is left in the store`)
    }
    const left = this.leftUntil.get(name) ?? { key, id, until: 0 }
    left.until = Math.max(left.until, now + ttl * 1.25 + slack)
    this.leftUntil.set(name, left)
  }

  /** A process has died: what it believed does not count any more. */
  bury(process: Process): void {
    for (const use of this.uses) {
      if (use.process !== process) continue
      this.touch([use], "its process died")
      this.uses.delete(use)
      this.leftUntil.set(nameOf(use), { key: use.key, id: use.id, until: this.world.now + use.ttl * 1.25 + slack })
    }
  }

  /** Marks identifiers. Unless requests were only slow, their answers do not tell what they did in the store. */
  touch(subjects: ReadonlyArray<Subject>, why: string, onlySlow = false): void {
    for (const subject of subjects) {
      const name = nameOf(subject)
      if (!this.touched.has(name)) this.touched.set(name, why)
      if (!onlySlow) this.unaccountable.add(name)
    }
  }

  touchAll(why: string, which: (use: Use) => boolean = () => true): void {
    for (const use of this.uses) if (which(use)) this.touch([use], why)
  }

  isTouched(subject: Subject): boolean {
    return this.touched.has(nameOf(subject))
  }

  /** A process goes on after a pause, during which it could end nothing. */
  resumed(process: Process): void {
    for (const use of this.uses) {
      if (use.process === process && Number.isFinite(use.mustEndBy)) this.mustEnd(use)
    }
  }

  sent(request: Request<unknown>): void {
    const { coverage } = this.world
    this.sentAt.set(request, this.world.now)
    if (request.operation === "release" && request.token === undefined && this.store().grants) {
      coverage.count("core: releases without a token, because no answer ever came")
      for (const subject of request.subjects) {
        const own = this.usesOf(subject).filter((use) => use.process === request.process)
        const knowsIt = own.length > 0 && own.every(({ token }) => token !== undefined)
        if (knowsIt && !this.reused.has(nameOf(subject))) {
          this.fail("B4", `${subject.key}/${subject.id} worked with a token, and releases without it`)
        }
      }
    }
    if (request.operation === "refreshAll") coverage.count("core: refreshes together")
    for (const subject of request.subjects) {
      this.countUnderWay(subject, 1)
      for (const use of this.usesOf(subject)) {
        use.mustAskBy = Number.POSITIVE_INFINITY
        if (request.operation === "release" && use.process === request.process) use.givesBack = true
      }
    }
    this.tellMoment(request, "sent")
  }

  landed({ operation, process, subjects, token }: Request<unknown>, open: boolean, deaf: boolean): void {
    // B4: a late release without a token can't be told from that of a newer hold. Nor can one with a token, when two
    // uses refreshed one hold. A driver that does not answer an interruption keeps open what the core gave up, and so does a
    // process that has died.
    // B1: an acquire for another number of permits that takes effect late, but within its time, starts over.
    if (operation === "release" && (!open || deaf || process.hasDied) || operation === "tryAcquire" && !open) {
      for (const subject of subjects) {
        const isUnclear = operation === "tryAcquire" || token === undefined || !this.store().grants ||
          this.takenOver.has(nameOf(subject))
        if (isUnclear) { for (const use of this.usesOf(subject)) this.excuse(use) }
      }
    }
    for (const subject of subjects) {
      const own = this.usesOf(subject)
      if (own.length > 0) {
        if (operation === "tryAcquire" && !open) this.touch([subject], "an acquire landed after it was given up")
        continue
      }
      // A refresh may be late, although its acquisition has ended: nothing stops it.
      const left = this.leftUntil.get(nameOf(subject))
      const contender = this.store().find(subject.key, subject.id)
      if (left === undefined || contender === undefined) continue
      if (operation === "refresh" || operation === "refreshAll") {
        left.until = Math.max(left.until, Number(contender.expiry.latest) / 1e6 + slack)
      }
    }
    this.tellMoment({ process, subjects }, "landed")
  }

  /** The driver was interrupted: nobody hears what becomes of the request. */
  givenUp({ operation, subjects }: Request<unknown>): void {
    for (const subject of subjects) {
      this.countUnderWay(subject, -1)
      this.world.coverage.count(`core: gives up a ${operation}`)
      this.unaccountable.add(nameOf(subject))
    }
  }

  answered(request: Request<unknown>, exit: Exit.Exit<unknown, unknown>): void {
    for (const subject of request.subjects) {
      this.countUnderWay(subject, -1)
      if (Exit.isFailure(exit)) this.world.coverage.count(`core: is told that a ${request.operation} failed`)
      if (Exit.isFailure(exit)) this.unaccountable.add(nameOf(subject))
      // A defect ends the acquisition that sent the request.
      if (Exit.hasDies(exit)) { for (const use of this.usesOf(subject)) use.givesBack = true }
    }
    if (Exit.isSuccess(exit)) {
      const answers = request.operation === "refreshAll" ? exit.value as ReadonlyArray<Answer> : [exit.value as Answer]
      for (const [index, subject] of request.subjects.entries()) {
        const answer = answers[index]
        for (const use of this.usesOf(subject)) {
          if (use.process !== request.process || use.phase !== "asks") continue
          use.answeredBy = request.operation
          use.heard = false
          if (typeof answer !== "object" || !("_tag" in answer)) continue
          if (use.place !== undefined && use.place !== answer.fencingToken) {
            this.world.coverage.count("core: asks anew after its place was lost")
          }
          // A notification before this answer, when its lease may have been over, has made it look.
          if (use.place !== undefined) this.heardTokens.get(`${use.process.name} ${use.key}`)?.delete(use.place)
          // The answer was on its way when its hold was taken away.
          if (use.forgotten && use.place === undefined) this.forgottenTokens.add(answer.fencingToken)
          use.place = answer.fencingToken
          use.position = answer._tag === "Waiting" ? answer.position : -1
          // The core no longer waits for an answer that takes longer than an attempt may last.
          const sent = this.sentAt.get(request) ?? Number.NEGATIVE_INFINITY
          if (this.world.now - sent < Math.min(use.ttl / 4, 5000) * 0.95) use.renewed = sent
        }
      }
    }
    this.tellMoment(request, "answered")
  }

  stood(process: Process, key: string): void {
    this.heardTokens.set(`${process.name} ${key}`, new Set())
    this.signalled(process, key)
  }

  /** A subscription has ended, and the process no longer knows what it heard. A waiter that joins now looks. */
  forgets(process: Process, key: string): void {
    this.heardTokens.delete(`${process.name} ${key}`)
  }

  /** A waiter asks again at once, or after the answer that is under way. */
  signalled(process: Process, key: string): void {
    for (const use of this.uses) {
      const waits = use.phase === "asks" && use.position >= 0 && use.user.waitingPolicy === "default"
      if (use.process !== process || use.key !== key || !waits || this.isTouched(use)) continue
      use.mustAskBy = Math.min(use.mustAskBy, this.world.now + slack + lateTimer)
    }
  }

  heard(process: Process, key: string, token: bigint): void {
    this.heardTokens.get(`${process.name} ${key}`)?.add(token)
    const own = Array.from(this.uses).filter((use) => use.process === process && use.key === key && use.place === token)
    if (own.length === 0) this.world.coverage.count("core: hears of a grant before the answer, or when it has gone")
    for (const use of own) {
      use.heard = true
      this.onMoment(use, "heard")
    }
  }

  granted(key: string, contender: Contender): void {
    for (const use of this.usesOf({ key, id: contender.id })) use.granted = this.world.now
  }

  gone(key: string, { holds, id, token }: Contender, why: Gone): void {
    const { coverage, now } = this.world
    coverage.count(`store: a ${holds ? "hold" : "place"} is ${why}`)
    this.world.tell(() => `the ${holds ? "hold" : "place"} ${token} of ${key}/${id} is ${why}`)
    if (why === "forgotten") {
      if (token !== undefined) this.forgottenTokens.add(token)
      for (const use of this.usesOf({ key, id })) this.excuse(use)
      return this.touch([{ key, id }], "the store has forgotten it")
    }
    if (this.isTouched({ key, id })) return
    for (const use of this.usesOf({ key, id })) {
      if (use.outer !== undefined && this.isTouched(use.outer)) continue
      if (use.interrupted || now >= use.mayEndFrom || now >= use.mustEndBy - patience * use.depth - slack) continue
      if (use.phase === "asks" && use.place === token && (waitsOn(use) || why === "expired")) {
        return this.fail("L1", `${key}/${id} waits, and its ${holds ? "hold" : "place"} is ${why} without any trouble`)
      }
      if (use.phase === "holds" && why === "expired") {
        return this.fail("S2", `${key}/${id} holds, and its hold is expired without any trouble`)
      }
    }
  }

  // Checks.

  /** At any instant, the store has what users believe to hold. */
  checkBeliefs(): void {
    for (const use of this.uses) {
      if (use.phase !== "holds" || use.process.state !== "runs" || !this.believes(use)) continue
      const { external, forgotten, id, key, permits, token } = use
      if (token === undefined ? forgotten : this.forgottenTokens.has(token)) continue
      const has = this.store().find(key, id)
      if (has?.holds && (external || has.permits >= permits) && (token === undefined || has.token === token)) continue
      const instead = has === undefined
        ? "nothing"
        : `${has.holds ? "a hold" : "a place"} of ${has.permits} with token ${has.token}`
      return this.fail(
        "S2",
        `${key}/${id} believes that it holds ${permits} with token ${token}, but the store has ${instead} of it`
      )
    }
  }

  /** After an event and its consequences, all that is due has happened. */
  checkDue(): void {
    const { now } = this.world
    for (const use of this.uses) {
      if (use.process.state !== "runs") continue
      if (now > use.mustEndBy) return this.fail("L4", `${use.key}/${use.id} has nothing left to do, but does not end`)
      if (
        use.phase === "asks" && !use.interrupted && !use.givesBack && !use.shared && waitsOn(use) &&
        now < use.mayEndFrom
      ) {
        this.checkWaiting(use)
      }
    }
    for (const [name, { count, id, key, since }] of this.underWay) {
      if (count > 0 || now <= since + slack || this.usesOf({ key, id }).length > 0) continue
      this.underWay.delete(name)
      if (!this.unaccountable.has(name) && this.store().find(key, id) !== undefined) {
        this.fail("L4", `${key}/${id} has ended, and so have its requests, and something of it is left in the store`)
      }
    }
    for (const [name, { id, key, until }] of this.leftUntil) {
      if (now <= until) continue
      this.leftUntil.delete(name)
      if (this.usesOf({ key, id }).length === 0 && this.store().find(key, id) !== undefined) {
        return this.fail("L4", `${key}/${id} ended long ago, and something of it is still in the store`)
      }
    }
  }

  private checkWaiting(use: Use): void {
    const { id, key, outer, place, position, process, renewed, ttl } = use
    const { now } = this.world
    // When the hold that it works under is lost, it ends.
    if (outer !== undefined && this.isTouched(outer)) return
    if (now > use.mustAskBy && !this.isTouched(use)) {
      return this.fail("L3", `${key}/${id} was notified, and does not ask`)
    }
    if (place === undefined || position < 0 || !this.store().grants) return
    const has = this.store().find(key, id)
    if (has?.holds !== true || has.token !== place) return
    // By its own clock, its lease may be over.
    const fresh = now < renewed + ttl * 0.85 - slack
    if (
      fresh && !this.mayGiveUp(use) && process.disturbedUntil < renewed &&
      this.heardTokens.get(`${process.name} ${key}`)?.has(place)
    ) {
      return this.fail("L3", `${key}/${id} has heard that its place ${place} is granted, and waits on`)
    }
    if (this.isTouched(use)) return
    const bound = position === 0 && use.user.waitingPolicy === "default" ? Math.min(1000, ttl / 3) : ttl / 3
    if (now > use.granted + bound * 1.02 + slack) {
      return this.fail("L3", `${key}/${id} was granted ${(now - use.granted).toFixed(1)} ms ago, and waits on`)
    }
  }

  /** Returns whether one of its policies may have ended its waiting: then it is giving its place back. */
  private mayGiveUp(use: Use): boolean {
    const { failurePolicy } = use.user
    return !waitsOn(use) || this.isTouched(use) && failurePolicy !== "default" && failurePolicy !== "for ever"
  }

  private believes({ lease, process, work }: Use): boolean {
    // After a suspension, timers are late, but the clock is not.
    const isLate = this.world.now < process.suspendedUntil + wakingUp
    return !isLate && work !== undefined && !isInterrupted(work) ||
      lease !== undefined && Duration.toMillis(Effect.runSync(lease.remaining)) > 0
  }

  private usesOf({ id, key }: Subject): ReadonlyArray<Use> {
    return Array.from(this.uses).filter((use) => use.key === key && use.id === id)
  }

  /** Excuses a use: its hold may be gone through no fault of the core. */
  private excuse(use: Use): void {
    use.forgotten = true
    if (use.place !== undefined) this.forgottenTokens.add(use.place)
    if (use.token !== undefined) this.forgottenTokens.add(use.token)
    this.touch([use], "its hold was taken away")
  }

  private countUnderWay({ id, key }: Subject, by: 1 | -1): void {
    const name = nameOf({ id, key })
    const underWay = this.underWay.get(name) ?? { key, id, count: 0, since: 0 }
    this.underWay.set(name, underWay)
    underWay.count += by
    underWay.since = this.world.now
  }

  private mustEnd(use: Use): void {
    use.mustEndBy = this.world.now + patience * use.depth + slack
  }

  private tellMoment({ process, subjects }: Pick<Request<unknown>, "process" | "subjects">, moment: Moment): void {
    for (const subject of subjects) {
      for (const use of this.usesOf(subject)) if (use.process === process) this.onMoment(use, moment)
    }
  }
}

/** Returns whether its policy lets it wait for as long as it takes. */
const waitsOn = ({ user: { waitingPolicy } }: Use) => waitingPolicy === "default" || waitingPolicy === "spaced"

const nameOf = ({ id, key }: Subject) => `${key.length}:${key}${id}`

/** Returns whether a fiber is being interrupted: its finalizers may take time. Only the fiber itself knows so soon. */
const isInterrupted = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  (fiber as unknown as { readonly _interruptedCause: unknown })._interruptedCause !== undefined

const tokenOf = (lease: Lease["Service"]): FencingToken | undefined =>
  lease.fencingToken._tag === "Some" ? lease.fencingToken.value : undefined
