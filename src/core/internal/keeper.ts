/**
 * Keeps the holds and the places of this process in a backing alive.
 *
 * There is one keeper per backing and clock. It sleeps until something is due. Then it refreshes together what is due or nearly due,
 * ends the holds whose lease is over, and rings alarms. It does not cut short a sleep that is no longer needed, so that a short hold
 * usually arms no timer.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { DistributedSemaphoreBacking, SemaphoreBackingError } from "../Backing.ts"
import { start } from "./attempt.ts"
import { inBackground } from "./background.ts"
import type { Answer, Contender } from "./contender.ts"
import { abandon, tryAcquire } from "./requests.ts"
import { shield } from "./shield.ts"
import type { Subscription } from "./subscriptions.ts"
import type { LocalTime } from "./time.ts"
import * as Time from "./time.ts"

/** A suspended machine stops timers too. After it wakes up, a loss is noticed within this time. */
const longestSleepMillis = 1000

/** The keeper listens for revocations once it keeps something for longer than this: shorter holds need no subscription. */
const lastingMillis = 1000

/** So many warnings of other limits are enough: there may be any number of keys. */
const mostLimitsMet = 1000

/** A timer may ring this much early by the clock: they do not agree to the microsecond. */
const epsilonMillis = 0.01

export interface Alarm {
  readonly due: number
  readonly ring: () => void
}

const keepersOf = new WeakMap<DistributedSemaphoreBacking, WeakMap<Clock.Clock, Keeper>>()

export class Keeper {
  readonly backing: DistributedSemaphoreBacking
  readonly now: LocalTime
  readonly subscriptions = new Map<string, Subscription>()
  /** The subscriptions without waiters, and when each is closed. The one that has had none for longest comes first. */
  readonly idleSubscriptions = new Map<Subscription, Alarm>()
  readonly context: Context.Context<never>
  private readonly contenders = new Set<Contender>()
  private readonly alarms = new Set<Alarm>()
  /** Listens for revocations. */
  private revocations: Fiber.Fiber<void> | undefined
  private readonly limitsMet = new Set<string>()
  private sleep: {
    readonly until: number
    /** Whether the keeper wakes in this turn of the event loop. */
    readonly isOver: boolean
    /** The time that timers had missed when it began. */
    readonly missed: number
    readonly fiber: Fiber.Fiber<void>
  } | undefined

  /** Returns the keeper of a backing and of the calling fiber's clock. */
  static readonly of = (backing: DistributedSemaphoreBacking): Effect.Effect<Keeper> =>
    Effect.withFiber((fiber: Fiber.Fiber<unknown, unknown>) => {
      const clock = fiber.getRef(Clock.Clock)
      const keepers = keepersOf.get(backing) ?? new WeakMap<Clock.Clock, Keeper>()
      keepersOf.set(backing, keepers)
      const keeper = keepers.get(clock) ?? new Keeper(backing, fiber.context)
      keepers.set(clock, keeper)
      return Effect.succeed(keeper)
    })

  private constructor(backing: DistributedSemaphoreBacking, context: Context.Context<never>) {
    this.backing = backing
    this.context = inBackground(context)
    this.now = Time.make(Context.get(context, Clock.Clock))
  }

  /** Runs an effect that does not keep the process alive. */
  run<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.context)(effect)
  }

  /** Calls `ring` once, when the time has passed. */
  setAlarm(millis: number, ring: () => void): Alarm {
    const alarm = { due: this.now() + millis, ring }
    this.alarms.add(alarm)
    this.wakeBy(alarm.due)
    return alarm
  }

  cancel(alarm: Alarm): void {
    this.alarms.delete(alarm)
  }

  /** Keeps a contender from now on. It must be called again when the contender's `due` has changed. */
  keep(contender: Contender): void {
    this.contenders.add(contender)
    this.wakeBy(contender.nextDue())
  }

  keeps(contender: Contender): boolean {
    return this.contenders.has(contender)
  }

  drop(contender: Contender): void {
    this.contenders.delete(contender)
  }

  /** Makes a contender ask the store at once, because somebody has revoked its hold or place. */
  revoked(key: string, identifier: string): void {
    for (const contender of this.contenders) {
      if (contender.config.key === key && contender.request.identifier === identifier) contender.look()
    }
  }

  /** Warns, once, that another limit counts than that of the config. */
  meetLimit(key: string, own: number, other: number): void {
    const met = `${own} ${other} ${key}`
    if (this.limitsMet.has(met) || this.limitsMet.size >= mostLimitsMet) return
    this.limitsMet.add(met)
    this.run(Effect.logWarning(`The limit of "${key}" is ${own} here, but ${other} elsewhere: the smaller one counts`))
  }

  /** Listens for revocations once something lasts, and stops when nothing is kept any more. */
  private listen(lasts: boolean): void {
    const { onRevoked } = this.backing
    if (lasts && onRevoked !== undefined) {
      this.revocations ??= this.run(Effect.ignoreCause(
        Stream.runForEach(onRevoked, ({ holderId, key }) => Effect.sync(() => this.revoked(key, holderId)))
      ))
    } else if (this.contenders.size === 0) {
      this.revocations?.interruptUnsafe()
      this.revocations = undefined
    }
  }

  private wakeBy(due: number): void {
    const now = this.now()
    const { sleep } = this
    const first = Math.min(due, sleep?.until ?? Number.POSITIVE_INFINITY)
    // A timer that stood still with the machine rings late, so it is replaced.
    const isLate = now >= first || sleep?.missed !== this.now.missed
    if (sleep !== undefined && (sleep.isOver || sleep.until === first && !isLate)) return
    sleep?.fiber.interruptUnsafe()
    const until = Math.min(first, now + longestSleepMillis)
    const isOver = until <= now
    const pause = isOver ? Effect.yieldNow : Effect.sleep(Math.ceil(until - now))
    const fiber = this.run(Effect.andThen(pause, Effect.sync(() => this.wake())))
    this.sleep = { until, isOver, missed: this.now.missed, fiber }
  }

  private wake(): void {
    this.sleep = undefined
    shield(() => this.doWhatIsDue())
    let next = Number.POSITIVE_INFINITY
    for (const alarm of this.alarms) next = Math.min(next, alarm.due)
    for (const contender of this.contenders) next = Math.min(next, contender.nextDue())
    if (this.alarms.size + this.contenders.size > 0) this.wakeBy(next)
  }

  private doWhatIsDue(): void {
    const now = this.now() + epsilonMillis
    for (const alarm of this.alarms) {
      if (alarm.due > now) continue
      this.alarms.delete(alarm)
      alarm.ring()
    }
    let somethingIsDue = false
    let somethingLasts = false
    for (const contender of this.contenders) {
      if (contender.began + lastingMillis <= now) somethingLasts = true
      if (contender.deadline <= now) contender.runOut()
      else if (contender.isDue(now)) somethingIsDue = true
    }
    if (somethingIsDue) this.renew(Array.from(this.contenders).filter((contender) => contender.isNearlyDue(now)))
    this.listen(somethingLasts)
  }

  /**
   * Renews contenders by as few requests as the backing can. Those that share a request have about the same time limit. After a
   * failure each key gets a request of its own: perhaps only the part of the store with another key is down.
   */
  private renew(due: ReadonlyArray<Contender>): void {
    const parts = partsOf(due, (contender) => {
      if (contender.asksAgain || this.backing.refreshAll === undefined) return contender
      if (contender.hasFailed) return keyOf(contender)
      return Math.ceil(Math.log2(Duration.toMillis(contender.config.attemptLimit)))
    })
    for (const part of parts) this.renewTogether(part)
  }

  private renewTogether(contenders: ReadonlyArray<Contender>): void {
    const { backing } = this
    const group = contenders.filter((contender) => this.keeps(contender))
    const [first] = group
    if (first === undefined) return
    const { asksAgain, refreshRequest: { fencingToken, holderId, key, limit, permits, ttl } } = first
    const operation = (): Effect.Effect<ReadonlyArray<Answer>, SemaphoreBackingError> => {
      if (group.length > 1) {
        return Effect.flatMap(
          backing.refreshAll!(group.map(({ refreshRequest }) => refreshRequest)),
          (answers) =>
            answers.length === group.length
              ? Effect.succeed(answers)
              : Effect.die(new Error(`refreshAll was asked for ${group.length} answers, and gave ${answers.length}`))
        )
      }
      return Effect.map(
        asksAgain ? tryAcquire(first, true) : backing.refresh(key, holderId, ttl, limit, permits, { fencingToken }),
        (answer) => [answer]
      )
    }
    const limitOfAll = group.map(({ config }) => config.attemptLimit).reduce(Duration.min)
    const now = this.now()
    for (const contender of group) contender.sends(now)
    const fiber = start(
      this,
      this.context,
      { name: asksAgain ? "tryAcquire" : "refresh", operation, limit: limitOfAll },
      (exit, fiber) => {
        if (Exit.isFailure(exit) && asksAgain) abandon(first, fiber)
        for (const contender of group) contender.renewing = undefined
        // A single contender may have caused the defect, or a single key's part of the store the failure: so each tries by itself.
        const parts = Exit.isSuccess(exit) ? [] : partsOf(group, Exit.hasDies(exit) ? (contender) => contender : keyOf)
        if (parts.length > 1) return parts.forEach((part) => this.renewTogether(part))
        for (const [index, contender] of group.entries()) {
          if (!this.keeps(contender)) continue
          // It has started over meanwhile: this is the answer about its former place.
          if (contender.sent !== now) contender.look()
          else if (Exit.isSuccess(exit)) contender.answered(exit.value[index]!)
          else contender.failed(Exit.failCause(exit.cause))
        }
      }
    )
    if (fiber.pollUnsafe() === undefined) { for (const contender of group) contender.renewing = fiber }
  }
}

const keyOf = ({ config: { key } }: Contender) => key

const partsOf = (
  contenders: ReadonlyArray<Contender>,
  by: (contender: Contender) => unknown
): ReadonlyArray<ReadonlyArray<Contender>> => {
  const parts = new Map<unknown, Array<Contender>>()
  for (const contender of contenders) {
    const part = by(contender)
    const members = parts.get(part)
    if (members === undefined) parts.set(part, [contender])
    else members.push(contender)
  }
  return Array.from(parts.values())
}
