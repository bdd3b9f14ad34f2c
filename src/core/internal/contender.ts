/**
 * One acquisition. It asks, it may have to wait, it holds, and in the end it gives back. The keeper refreshes it while it waits and
 * while it holds.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Acquired, FencingToken, RefreshRequest, SemaphoreBackingError, Waiting } from "../Backing.ts"
import { LockLostError, LockNotAcquiredError } from "../Errors.ts"
import * as Delays from "./delays.ts"
import type { Keeper } from "./keeper.ts"
import type { Metrics } from "./metrics.ts"
import { Name } from "./names.ts"
import * as Observation from "./observation.ts"
import type { Request, ResolvedConfig } from "./options.ts"
import { shield } from "./shield.ts"

/** What a store answers. `true` comes from a backing without tokens, `false` means neither a hold nor a place. */
export type Answer = boolean | Acquired | Waiting

/** How the waiting ended: by a grant, by the loss of the place, or by the end of a policy. */
export type Turn = Exit.Exit<"granted" | "gone", LockNotAcquiredError | SemaphoreBackingError>

/** How a hold was lost. */
export type Loss = Exit.Exit<never, LockLostError | SemaphoreBackingError>

/** By which part of its pause a refresh may come early, to share a request with others. */
const slackRatio = 0.1

/** The shortest pause before a place is refreshed: a backing may round `retryAfter` down to nothing. */
const leastPauseMillis = 10

export const isGranted = (answer: Answer): answer is true | Acquired =>
  answer === true || answer !== false && answer._tag === "Acquired"

export class Contender {
  readonly keeper: Keeper
  readonly config: ResolvedConfig
  readonly request: Request
  readonly name: Name
  readonly began: number
  readonly metrics: Metrics
  /** The context of the fiber that acquires: it may have other loggers than the keeper's context. */
  readonly context: Context.Context<never>
  /** Whether the metrics count its hold. */
  isCounted = false
  /** When it began to wait, and how many waiters were ahead of it then. */
  joined: number | undefined
  position: number | undefined
  token: FencingToken | undefined
  /** When the last request that may have given or extended a hold or a place was sent. */
  sent = Number.NEGATIVE_INFINITY
  /** The time that timers had missed by then. */
  private missed = 0
  /** When the last release was sent. */
  private released = Number.NEGATIVE_INFINITY
  /** When the last answered acquire or refresh was sent: the lease counts from then. */
  renewed = Number.NEGATIVE_INFINITY
  /** When the lease was last compared with the clock: a hold begins then. */
  checked = Number.NEGATIVE_INFINITY
  /** When the lease is over. */
  deadline = Number.POSITIVE_INFINITY
  /** Whether the store may have given it a hold or a place, or may still do so. */
  mayHave = false
  /** Whether a request has failed, and so may have taken effect. */
  uncertain = false
  /** The request under way by which the keeper renews the hold or the place. */
  renewing: Fiber.Fiber<unknown, unknown> | undefined
  /** Whether it must start over: another acquisition took over what the store granted it, and has given that back. */
  mustStartOver = false
  /** Abandoned requests that may still take effect. */
  late: Set<Fiber.Fiber<unknown, unknown>> | undefined
  loss: Loss | undefined
  private onTurn: ((turn: Turn) => void) | undefined
  private onLoss: Set<(loss: Loss) => void> | undefined
  private due = Number.POSITIVE_INFINITY
  private slack = 0
  /** Whether a notification came while a renewal was under way, whose answer may be older than the notification. */
  private lookAgain = false
  private isKeptAlive = true
  private pollAt = Number.NEGATIVE_INFINITY
  private polls: Delays.Delays<void> | undefined
  private failure: SemaphoreBackingError | undefined
  private retries: Delays.Delays<SemaphoreBackingError> | undefined

  constructor(
    keeper: Keeper,
    config: ResolvedConfig,
    request: Request,
    metrics: Metrics,
    context: Context.Context<never>
  ) {
    this.keeper = keeper
    this.metrics = metrics
    this.context = context
    this.config = config
    this.request = request
    this.began = keeper.now()
    this.name = new Name(keeper.backing, config.key, request.identifier, () => this.takenBack())
  }

  get refreshRequest(): RefreshRequest {
    const { config: { key, limit, ttl }, request: { identifier, permits }, token } = this
    return { key, holderId: identifier, ttl, limit, permits, fencingToken: token }
  }

  /** Whether it waits without a token: a store without tokens does not grant, so the waiter must ask again. */
  get asksAgain(): boolean {
    return this.onTurn !== undefined && this.token === undefined
  }

  get hasFailed(): boolean {
    return this.failure !== undefined
  }

  nextDue(): number {
    return this.renewing !== undefined ? this.deadline : Math.min(this.due, this.deadline)
  }

  isDue(now: number): boolean {
    return this.renewing === undefined && this.due <= now
  }

  isNearlyDue(now: number): boolean {
    return this.renewing === undefined && this.due - this.slack <= now
  }

  /** Begins to wait. `onTurn` is called once, when the waiting ends. */
  wait(answer: false | Waiting, onTurn: (turn: Turn) => void): void {
    this.onTurn = onTurn
    this.stay(answer)
  }

  /** Asks the store at once whether the place has been granted, or the hold revoked. */
  look(): void {
    const mayLook = this.onTurn !== undefined || this.isHeld && this.isKeptAlive
    if (!mayLook) return
    if (this.renewing !== undefined) this.lookAgain = true
    else this.renewIn(0)
  }

  /** The store has granted the place. If the lease is over by the local clock, the hold may be gone already, so look first. */
  grant(): void {
    if (this.onTurn === undefined) return
    if (this.checkLease()) return this.look()
    this.hold()
    this.turn(Exit.succeed("granted"))
  }

  /** Compares the lease with the clock. Returns whether it is over. */
  checkLease(): boolean {
    this.checked = this.keeper.now()
    return this.renewed + this.config.leaseMillis <= this.checked
  }

  hold(): void {
    const interval = Duration.toMillis(this.config.refreshInterval)
    this.deadline = this.renewed + this.config.leaseMillis
    this.due = this.isKeptAlive ? this.renewed + interval : Number.POSITIVE_INFINITY
    this.slack = interval * slackRatio
    if (this.lookAgain && this.isKeptAlive) this.due = this.keeper.now()
    this.lookAgain = false
    this.keeper.keep(this)
  }

  private get isHeld(): boolean {
    return this.deadline < Number.POSITIVE_INFINITY
  }

  /** Stops refreshing the hold. It lasts until its lease is over. */
  letRunOut(): void {
    this.isKeptAlive = false
    this.due = Number.POSITIVE_INFINITY
  }

  /** The store has answered a renewal. */
  answered(answer: Answer): void {
    this.failure = this.retries = undefined
    if (answer === false && !this.asksAgain) {
      return this.onTurn === undefined ? this.lose("revoked") : this.turn(Exit.succeed("gone"))
    }
    this.renewed = this.sent
    this.meetLimit(answer)
    // The answer may say that this holder waits, if it is older than the notification of its grant.
    if (this.onTurn === undefined) return this.hold()
    if (!isGranted(answer)) return this.stay(answer)
    if (answer !== true) this.token = answer.fencingToken
    this.grant()
  }

  /** Makes the keeper warn if another limit than this contender's counts. */
  meetLimit(answer: Answer): void {
    const { config: { key, limit }, keeper } = this
    if (typeof answer === "object" && answer.limit !== undefined) keeper.meetLimit(key, limit, answer.limit)
  }

  /** A renewal has failed: the policy says when to try again. */
  failed(exit: Exit.Exit<never, SemaphoreBackingError>): void {
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    if (error === undefined) return this.stop(exit)
    Observation.refreshFailed(this, error)
    this.failure = error
    this.retries ??= Delays.make(this.config.backingFailureRetryPolicy)
    this.due = Number.POSITIVE_INFINITY
    this.keeper.keep(this)
    this.step(this.retries(error), exit, (millis) => this.renewIn(millis, 0))
  }

  /** The lease has ended without a renewal. */
  runOut(): void {
    this.lose("unreachable")
  }

  /** Another acquisition has given back the hold that both of them shared. */
  private takenBack(): void {
    if (this.isHeld) return this.lose("revoked")
    this.mustStartOver = true
    if (this.onTurn !== undefined) this.turn(Exit.succeed("gone"))
  }

  /** Ends the hold: it was lost, or is given back. */
  end(loss: Loss): void {
    if (this.loss !== undefined) return
    this.loss = loss
    Observation.ended(this, loss)
    this.keeper.drop(this)
    this.onLoss?.forEach((listener) => shield(() => listener(loss)))
  }

  /** Calls the listener when the hold ends, or at once if it has ended. Returns a function that stops listening. */
  listen(listener: (loss: Loss) => void): () => void {
    const listeners = this.onLoss ??= new Set()
    if (this.loss !== undefined) listener(this.loss)
    else listeners.add(listener)
    return () => listeners.delete(listener)
  }

  /** Remembers when it sends a request that may give or extend a hold or a place. */
  sends(now: number): void {
    this.sent = now
    this.missed = this.keeper.now.missed
  }

  /** Remembers when it sends a release. */
  sendsRelease(): void {
    this.released = this.keeper.now()
  }

  /**
   * How many milliseconds the lease may still last in the store, at most. The store counts from when a request takes effect: that is
   * at most the time limit of an attempt after it was sent (B12). What timers have missed since then does not count: perhaps only the
   * wall clock was set forward.
   */
  millisInStore(): number {
    const { config: { attemptLimit, ttl }, keeper, missed, sent } = this
    // The clock is read first, because this notices what timers have missed.
    const now = keeper.now()
    return sent + Duration.toMillis(ttl) + Duration.toMillis(attemptLimit) + keeper.now.missed - missed - now
  }

  /**
   * Frees the name: at once if nothing can be held any more, otherwise when the lease is over and a release can't be under way any
   * more. A release without a token would free the next hold of the same name.
   */
  leaveName(): void {
    const ofRelease = this.released + Duration.toMillis(this.config.attemptLimit) - this.keeper.now()
    const left = this.mayHave ? Math.max(this.millisInStore(), ofRelease) : 0
    if (left <= 0) this.name.leave(this.mayHave ? this.token : undefined)
    // An alarm may ring a moment early.
    else this.keeper.setAlarm(left + 1, () => this.leaveName())
  }

  millisLeft(): number {
    return this.loss === undefined ? Math.max(0, this.deadline - this.keeper.now()) : 0
  }

  /**
   * Stays in line, and decides when to ask again: when the place must be renewed, when the backing says so, or when it is time to
   * poll. A waiter further back polls less often.
   */
  private stay(answer: false | Waiting): void {
    if (this.lookAgain) {
      this.lookAgain = false
      return this.renewIn(0)
    }
    const { acquireRetryInterval, acquireRetryPolicy, key, ttl } = this.config
    const renewal = Duration.toMillis(ttl) / 3
    const retryAfter = answer === false ? undefined : answer.retryAfter
    const pause = answer === false
      ? Number.POSITIVE_INFINITY
      : Math.max(
        leastPauseMillis,
        retryAfter === undefined ? renewal : Math.min(Duration.toMillis(retryAfter), renewal)
      )
    if (acquireRetryPolicy === undefined) {
      const places = retryAfter !== undefined ? Number.POSITIVE_INFINITY : answer === false ? 1 : answer.position + 1
      return this.renewIn(Math.min(pause, Duration.toMillis(acquireRetryInterval) * places))
    }
    // Asking earlier, because of a signal, does not start the policy's pause anew.
    const { onTurn } = this
    if (this.pollAt <= this.sent + 1) {
      this.pollAt = Number.POSITIVE_INFINITY
      this.polls ??= Delays.make(acquireRetryPolicy)
      const ended = Exit.fail(new LockNotAcquiredError({ key, identifier: this.request.identifier }))
      this.keeper.keep(this)
      this.step(this.polls(), ended, (millis) => {
        this.pollAt = this.keeper.now() + millis
        if (this.pollAt < this.due) this.renewIn(millis, 0)
      })
    }
    if (this.onTurn === onTurn) this.renewIn(Math.min(pause, this.pollAt - this.keeper.now()))
  }

  /** Takes the next pause of a policy, or stops if it has ended. By the time the policy answers, the waiting may be over. */
  private step(
    next: Effect.Effect<number | undefined>,
    ended: Exit.Exit<never, LockNotAcquiredError | SemaphoreBackingError>,
    then: (millis: number) => void
  ): void {
    const { onTurn } = this
    this.keeper.run(Effect.map(Effect.exit(next), (exit) => {
      if (!this.keeper.keeps(this) || this.onTurn !== onTurn) return
      if (Exit.isFailure(exit)) this.stop(Exit.failCause(exit.cause))
      else if (exit.value === undefined) this.stop(ended)
      else then(exit.value)
    }))
  }

  private renewIn(millis: number, slack = this.asksAgain ? 0 : millis * slackRatio): void {
    this.due = this.keeper.now() + millis
    this.slack = slack
    this.keeper.keep(this)
  }

  private stop(exit: Exit.Exit<never, LockNotAcquiredError | SemaphoreBackingError>): void {
    if (this.onTurn !== undefined) this.turn(exit)
    else this.lost(exit as Loss)
  }

  private turn(turn: Turn): void {
    const onTurn = this.onTurn!
    this.onTurn = undefined
    if (!this.isHeld) this.keeper.drop(this)
    onTurn(turn)
  }

  private lost(loss: Loss): void {
    this.leaveName()
    this.end(loss)
  }

  private lose(reason: LockLostError["reason"]): void {
    if (this.loss !== undefined) return
    const { config: { key }, failure: cause, request: { identifier } } = this
    const error = new LockLostError({
      key,
      identifier,
      reason: reason === "revoked" && this.millisLeft() === 0 ? "expired" : reason,
      ...reason === "unreachable" && cause && { cause }
    })
    Observation.lost(this, error)
    // The store has forgotten the hold, so there is nothing to give back.
    if (reason === "revoked") this.mayHave = Boolean(this.late?.size)
    this.lost(Exit.fail(error))
  }
}
