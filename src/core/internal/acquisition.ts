/** One acquisition, from its first question to the store until its permits are given back. */
import { Duration, Effect, Fiber } from "effect"
import type { Acquired, DistributedSemaphoreBacking, FencingToken, Waiting } from "../Backing.ts"
import type { SemaphoreBackingError } from "../Errors.ts"
import * as Attempt from "./attempt.ts"
import { Contender } from "./contender.ts"
import type { Keeper } from "./keeper.ts"
import { Name } from "./names.ts"
import type { Request, ResolvedConfig } from "./options.ts"

/** The store has given the permits, or a place, or neither. */
export type Answer = Granted | Waits | Refused

interface Sent {
  /** When the request was sent. */
  readonly sent: number
}

export type Waits = Waiting & Sent

export interface Granted extends Sent {
  readonly _tag: "Granted"
  readonly fencingToken: FencingToken | undefined
}

export interface Refused extends Sent {
  readonly _tag: "Refused"
}

const answerOf = (value: boolean | Acquired | Waiting, sent: number): Answer => {
  if (value === false) return { _tag: "Refused", sent }
  if (value === true) return { _tag: "Granted", fencingToken: undefined, sent }
  return value._tag === "Waiting" ? { ...value, sent } : { _tag: "Granted", fencingToken: value.fencingToken, sent }
}

/** How long an interruption, and the end of a scope, wait for a store that may not answer. */
const patienceMillis = 500

export class Acquisition {
  readonly keeper: Keeper
  readonly config: ResolvedConfig
  readonly request: Request
  readonly name: Name
  /** Its number, once the store has told it. */
  private token: FencingToken | undefined
  /** Whether the store may have given something, or may yet do so. */
  private mayHave = false
  /** Whether an attempt has failed, and so may have taken effect. */
  private failed = false
  /** When the last request that may have created or extended something was sent. */
  private extended = Number.NEGATIVE_INFINITY
  /** A refresh that was under way when the permits were to be given back. */
  private refreshing: Fiber.Fiber<unknown, unknown> | undefined
  /** Attempts that nobody waits for any more, and that may still take effect. */
  private late: Set<Fiber.Fiber<unknown, unknown>> | undefined

  constructor(keeper: Keeper, config: ResolvedConfig, request: Request) {
    this.keeper = keeper
    this.config = config
    this.request = request
    this.name = new Name(keeper.backing, config.key, request.identifier)
  }

  /** Asks for the permits; with `queue`, takes or keeps a place in line. */
  ask(queue: boolean): Effect.Effect<Answer, SemaphoreBackingError> {
    const { config: { key, limit, ttl }, keeper: { backing }, request: { identifier, permits } } = this
    const options = { queue, within: this.config.attemptLimit }
    const asked = this.repeated("tryAcquire", () => {
      this.mayHave = true
      return backing.tryAcquire(key, identifier, ttl, limit, permits, options)
    })
    return this.whileStale(Effect.tap(asked, (answer) => {
      if (answer._tag === "Refused") this.mayHave = this.failed
      else this.token = answer.fencingToken
      return Effect.void
    }))
  }

  /** Takes over permits that were acquired externally. `Refused` if there are none. */
  get confirm(): Effect.Effect<Answer, SemaphoreBackingError> {
    const { config: { key, limit, ttl }, keeper: { backing }, request: { identifier, permits } } = this
    const refresh = this.repeated("refresh", () => backing.refresh(key, identifier, ttl, limit, permits))
    return Effect.andThen(
      this.name.givenBack,
      Effect.flatMap(this.whileStale(refresh), (answer): Effect.Effect<Answer, SemaphoreBackingError> => {
        if (answer._tag === "Granted" && !this.name.takeOver()) return this.confirm
        if (answer._tag === "Granted") this.token = answer.fencingToken
        return Effect.succeed(answer)
      })
    )
  }

  /** What the keeper keeps alive. */
  contender({ fencingToken, sent }: Granted | Waits): Contender {
    const { config: { key, limit, ttl }, request: { identifier, permits } } = this
    return new Contender(
      this.keeper,
      this.config,
      { key, holderId: identifier, ttl, limit, permits, fencingToken },
      sent
    )
  }

  /** Ends it: gives back what the store may have given, and waits for that half a second at most. */
  giveBackBriefly(contender?: Contender): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.mayHave && contender === undefined) return Effect.sync(() => this.name.leave())
      const fiber = this.giveBack(contender)
      return fiber.pollUnsafe() !== undefined ? Effect.void : Effect.callback<void>((resume) => {
        const done = () => resume(Effect.void)
        const alarm = this.keeper.setAlarm(patienceMillis, done)
        fiber.addObserver(() => {
          this.keeper.cancel(alarm)
          done()
        })
      })
    })
  }

  /**
   * Starts to give back, in the background, what the store may have given. Nothing is released when another acquisition has taken
   * the hold over, or when the lease is over by now.
   */
  giveBack(contender?: Contender): Fiber.Fiber<void> {
    if (contender !== undefined) this.extended = Math.max(this.extended, contender.extended)
    this.refreshing = contender?.refreshing
    this.name.giveBack()
    const fiber = this.keeper.run(this.name.isOwn ? this.settleAndRelease : Effect.void)
    fiber.addObserver(() => this.name.leave())
    return fiber
  }

  /** Whether attempts that nobody waits for any more may still take effect. */
  get isUnsettled(): boolean {
    return this.late !== undefined && this.late.size > 0
  }

  /** What is under way is settled first: within its time limit, it may end by itself. */
  private get settleAndRelease(): Effect.Effect<void> {
    const { attemptLimit, ttl } = this.config
    const released = Effect.exit(
      Effect.suspend(() => this.release(this.extended + Duration.toMillis(ttl) - this.keeper.now()))
    )
    const underWay = [...this.late ?? [], ...this.refreshing ? [this.refreshing] : []]
    const settled = underWay.length === 0
      ? released
      : Effect.andThen(Effect.timeoutOption(Fiber.awaitAll(underWay), attemptLimit), released)
    return Effect.flatMap(
      settled,
      (exit) => this.isUnsettled ? Effect.timeout(this.releaseLate, Duration.times(ttl, 2)) : exit
    ).pipe(Effect.ignoreCause({
      log: "Debug",
      message:
        `The permits of "${this.config.key}" could not be given back: they are free again when their lease has expired`
    }))
  }

  /** A driver that can't be interrupted may let an acquire land even now, or a release on the next holder of this name. */
  private get releaseLate(): Effect.Effect<void, unknown> {
    return Fiber.awaitAll(this.late!).pipe(
      Effect.andThen(Effect.suspend(() => Effect.exit(this.release(Duration.toMillis(this.config.ttl))))),
      Effect.flatMap((exit) => this.isUnsettled ? this.releaseLate : exit)
    )
  }

  /** Repeated until the lease is over. Then there is nothing left to release. */
  private release(millisLeft: number): Effect.Effect<void, unknown> {
    if (millisLeft <= 0) return Effect.void
    const { config: { backingFailureRetryPolicy, key }, keeper: { backing }, request: { identifier, permits } } = this
    const attempt = this.attempt(
      "release",
      () => backing.release(key, identifier, permits, { fencingToken: this.token })
    )
    return Attempt.repeat(attempt, backingFailureRetryPolicy, Duration.millis(millisLeft))
  }

  /** A reply that comes when its lease is over already (this process was paused) grants nothing: ask again. */
  private whileStale(
    question: Effect.Effect<Answer, SemaphoreBackingError>
  ): Effect.Effect<Answer, SemaphoreBackingError> {
    return Effect.flatMap(
      question,
      (answer) =>
        answer._tag === "Granted" && answer.sent + this.config.leaseMillis <= this.keeper.now()
          ? this.whileStale(question)
          : Effect.succeed(answer)
    )
  }

  /** By the `backingFailureRetryPolicy`. */
  private repeated(
    name: "tryAcquire" | "refresh",
    operation: () => Effect.Effect<boolean | Acquired | Waiting, SemaphoreBackingError>
  ): Effect.Effect<Answer, SemaphoreBackingError> {
    const attempt = Effect.suspend(() => {
      const sent = this.extended = this.keeper.now()
      return Effect.map(this.attempt(name, operation), (value) => answerOf(value, sent))
    })
    return Attempt.repeat(attempt, this.config.backingFailureRetryPolicy)
  }

  private attempt<A>(
    name: "tryAcquire" | "refresh" | "release",
    operation: () => Effect.Effect<A, SemaphoreBackingError>
  ): Effect.Effect<A, SemaphoreBackingError> {
    const { config: { attemptLimit: limit }, keeper } = this
    return Attempt.run(keeper, { name, operation, limit }, (fiber) => this.abandon(name, fiber))
  }

  /** What failed or was given up may have taken effect, or may do so yet. A late refresh creates nothing (B5). */
  private abandon(name: keyof DistributedSemaphoreBacking, fiber: Fiber.Fiber<unknown, unknown> | undefined): void {
    this.failed = true
    if (name === "refresh" || fiber === undefined || fiber.pollUnsafe() !== undefined) return
    const late = this.late ??= new Set()
    late.add(fiber)
    fiber.addObserver(() => late.delete(fiber))
  }
}
