/** A holder, or a waiter in line, as the keeper keeps it. */
import { Duration, Effect, Exit } from "effect"
import type { Fiber } from "effect"
import type { Acquired, RefreshRequest, Waiting } from "../Backing.ts"
import type { SemaphoreBackingError } from "../Errors.ts"
import { LockLostError } from "../Errors.ts"
import type { Delays } from "./delays.ts"
import type { Keeper } from "./keeper.ts"
import type { ResolvedConfig } from "./options.ts"

export type End = Exit.Exit<never, LockLostError | SemaphoreBackingError>

/** What a waiter waits for: its grant, the loss of its place, or a store that fails. */
export type Turn = Exit.Exit<"granted" | "gone", SemaphoreBackingError>

const granted: Turn = Exit.succeed("granted")
const gone: Turn = Exit.succeed("gone")

/** How much of its pause a refresh may come early, to share a request with others. */
const slackRatio = 0.1

/** Keeps a backing that rounds down to nothing from being asked without a pause. */
const leastPauseMillis = 10

export class Contender {
  readonly config: ResolvedConfig
  readonly request: RefreshRequest
  /** When the last request that was answered, and so extended its lease or place, had been sent. */
  renewed: number
  /** When the last request was sent, which may have extended them. */
  extended: number
  /** When its lease is over; a place has none. */
  deadline = Number.POSITIVE_INFINITY
  /** The request that refreshes it just now. */
  refreshing: Fiber.Fiber<unknown, unknown> | undefined
  /** The last failure of the store, unless it has answered since. */
  failure: SemaphoreBackingError | undefined
  delays: Delays<SemaphoreBackingError> | undefined
  private readonly keeper: Keeper
  private due = Number.POSITIVE_INFINITY
  private slack = 0
  private onTurn: ((turn: Turn) => void) | undefined
  private ended: End | undefined
  private readonly endListeners = new Set<(end: End) => void>()

  constructor(keeper: Keeper, config: ResolvedConfig, request: RefreshRequest, renewed: number) {
    this.keeper = keeper
    this.config = config
    this.request = request
    this.renewed = this.extended = renewed
  }

  nextDue(): number {
    return this.refreshing !== undefined ? this.deadline : Math.min(this.due, this.deadline)
  }

  isDue(now: number): boolean {
    return this.refreshing === undefined && this.due <= now
  }

  isNearlyDue(now: number): boolean {
    return this.refreshing === undefined && this.due - this.slack <= now
  }

  refreshIn(millis: number, slack = millis * slackRatio): void {
    this.due = this.keeper.now() + millis
    this.slack = slack
    this.keeper.keep(this)
  }

  /** Stands in line, and is called back once. */
  wait(answer: Waiting, onTurn: (turn: Turn) => void): void {
    this.onTurn = onTurn
    this.stay(answer)
  }

  /** Asks at once whether it is granted. */
  look(): void {
    if (this.onTurn !== undefined) this.refreshIn(0)
  }

  /** Holds. Its lease is counted from when the last answered request was sent, whenever it was granted. */
  hold(): void {
    this.deadline = this.renewed + this.config.leaseMillis
    const interval = Duration.toMillis(this.config.refreshInterval)
    this.due = this.renewed + interval
    this.slack = interval * slackRatio
    this.keeper.keep(this)
  }

  /** The store has granted the place. A grant whose lease is over already by now may be gone: that is asked first. */
  grant(): void {
    if (this.onTurn === undefined) return
    if (this.renewed + this.config.leaseMillis <= this.keeper.now()) return this.look()
    this.hold()
    this.turn(granted)
  }

  refreshed(answer: boolean | Acquired | Waiting, sent: number): void {
    this.failure = this.delays = undefined
    if (answer === false) return this.onTurn === undefined ? this.lose("revoked") : this.turn(gone)
    this.renewed = sent
    // A holder may be told that it waits: the answer was on its way when the grant overtook it.
    if (this.onTurn === undefined) this.hold()
    else if (answer !== true && answer._tag === "Waiting") this.stay(answer)
    else this.grant()
  }

  /** The deadline has passed. */
  runOut(): void {
    this.lose("unreachable")
  }

  /** The store has failed, and the policy has ended. */
  fail(exit: Exit.Exit<never, SemaphoreBackingError>): void {
    if (this.onTurn === undefined) this.end(exit)
    else this.turn(exit)
  }

  /** Ends the hold: it has been lost, or is given back. */
  end(end: End): void {
    if (this.ended !== undefined) return
    this.keeper.drop(this)
    this.ended = end
    for (const listener of this.endListeners) listener(end)
  }

  /** Calls back when the hold has been lost, at once if it has been already; returns how to stop that. */
  onEnd(listener: (end: End) => void): () => void {
    if (this.ended !== undefined) listener(this.ended)
    else this.endListeners.add(listener)
    return () => this.endListeners.delete(listener)
  }

  /** How it was lost. */
  lost(): End | undefined {
    return this.ended
  }

  millisLeft(): number {
    return this.ended === undefined ? Math.max(0, this.deadline - this.keeper.now()) : 0
  }

  private stay({ position, retryAfter }: Waiting): void {
    const renewal = Duration.toMillis(this.config.ttl) / 3
    const pause = retryAfter !== undefined
      ? Duration.toMillis(retryAfter)
      : this.config.acquireRetryPolicy !== undefined
      ? renewal
      // The further back it stands, the less often it asks.
      : Duration.toMillis(this.config.acquireRetryInterval) * (position + 1)
    this.refreshIn(Math.max(leastPauseMillis, Math.min(pause, renewal)))
  }

  private turn(turn: Turn): void {
    if (turn !== granted) this.keeper.drop(this)
    const onTurn = this.onTurn!
    this.onTurn = undefined
    onTurn(turn)
  }

  private lose(reason: LockLostError["reason"]): void {
    const { holderId: identifier, key } = this.request
    const cause = reason === "unreachable" ? this.failure : undefined
    const error = new LockLostError({
      key,
      identifier,
      reason: reason === "revoked" && this.millisLeft() === 0 ? "expired" : reason,
      ...cause && { cause }
    })
    this.keeper.run(Effect.logWarning(error.message))
    this.end(Exit.fail(error))
  }
}
