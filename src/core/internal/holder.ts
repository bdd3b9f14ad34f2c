/** One acquisition, from its first question to the store until its permits are given back. */
import { Duration, Effect, Fiber, Option } from "effect"
import type { Acquired, DistributedSemaphoreBacking, FencingToken, Waiting } from "../Backing.ts"
import type { SemaphoreBackingError } from "../Errors.ts"
import { inBackground } from "./background.ts"
import * as Instant from "./instant.ts"
import * as Names from "./names.ts"
import * as Operations from "./operations.ts"
import type { Acquisition, ResolvedConfig } from "./options.ts"

export interface Holder {
  readonly config: ResolvedConfig
  readonly acquisition: Acquisition
  /** The use of its identifier in this process. */
  readonly name: Names.Name
  /** Asks for the permits; with `queue`, takes or keeps a place in line. */
  readonly ask: (options: { readonly queue: boolean }) => Effect.Effect<Answer, SemaphoreBackingError>
  /** Extends the lease. `Refused` if there is no hold. */
  readonly refresh: Effect.Effect<Granted | Refused, SemaphoreBackingError>
  /** Like `ask`, for permits that were acquired externally: takes them over. */
  readonly confirm: Effect.Effect<Granted | Refused, SemaphoreBackingError>
  /** Whether the store may have given this holder something, or may yet do so. */
  readonly mayHold: () => boolean
  /** Whether an acquire may still take effect. */
  readonly inFlight: () => boolean
  /** The last failure of the store, unless it has answered since. */
  readonly lastFailure: () => SemaphoreBackingError | undefined
  /**
   * Starts to give back, in the background, what the store may have given; ends within two ttl. Nothing is released when the
   * lease is over, or when another acquisition has taken the hold over.
   */
  readonly giveBack: Effect.Effect<Fiber.Fiber<void>>
  /** Forgets what is in flight, of a holder that has nothing to give back. */
  readonly abandon: Effect.Effect<void>
  /** Milliseconds until a lease counted from `sent` must be taken for lost; not above 0 when it must be already. */
  readonly millisLeft: (sent: Instant.Instant) => Effect.Effect<number>
}

export type Answer = Granted | Waiting | Refused

export interface Granted {
  readonly _tag: "Granted"
  readonly fencingToken: Option.Option<FencingToken>
  readonly sent: Instant.Instant
}

export interface Refused {
  readonly _tag: "Refused"
}

const refused: Refused = { _tag: "Refused" }

const granted = (value: true | Acquired, sent: Instant.Instant): Granted => ({
  _tag: "Granted",
  fencingToken: value === true ? Option.none() : Option.some(value.fencingToken),
  sent
})

export const make = (
  backing: DistributedSemaphoreBacking,
  config: ResolvedConfig,
  acquisition: Acquisition
): Holder => {
  const { key, limit, ttl } = config
  const { identifier, permits } = acquisition
  const operations = Operations.make(config)
  const name = Names.make(backing, key, identifier)
  let asked = false

  const millisLeft = (sent: Instant.Instant) =>
    Effect.map(Instant.millisSince(sent), (passed) => config.leaseMillis - passed)

  /** A reply that comes when its lease is over already (this process was paused) grants nothing: ask again. */
  const whileStale = <A extends Answer>(
    question: Effect.Effect<A, SemaphoreBackingError>
  ): Effect.Effect<A, SemaphoreBackingError> =>
    Effect.flatMap(question, (answer) =>
      answer._tag === "Granted"
        ? Effect.flatMap(millisLeft(answer.sent), (left) => left > 0 ? Effect.succeed(answer) : whileStale(question))
        : Effect.succeed(answer))

  const ask = ({ queue }: { readonly queue: boolean }): Effect.Effect<Answer, SemaphoreBackingError> =>
    Effect.suspend(() => {
      asked = true
      return operations.run("tryAcquire", () => backing.tryAcquire(key, identifier, ttl, limit, permits, { queue }))
    }).pipe(Effect.map((reply): Answer => {
      const value = reply.value
      if (value === false) {
        asked = operations.uncertain()
        return refused
      }
      return value !== true && value._tag === "Waiting" ? value : granted(value, reply.sent)
    }))

  const refresh = Effect.map(
    operations.run("refresh", () => backing.refresh(key, identifier, ttl, limit, permits)),
    ({ sent, value }): Granted | Refused => value === false ? refused : granted(value, sent)
  )

  const confirm: Effect.Effect<Granted | Refused, SemaphoreBackingError> = Effect.andThen(
    name.givenBack,
    Effect.flatMap(
      whileStale(refresh),
      (answer) => answer._tag === "Refused" || name.takeOver() ? Effect.succeed(answer) : confirm
    )
  )

  /** Repeated until a lease counted from `extended` is over. Then there is nothing left to release. */
  const release = (extended: Instant.Instant) =>
    Effect.flatMap(Instant.millisSince(extended), (passed) => {
      const left = Duration.toMillis(ttl) - passed
      return left > 0
        ? Effect.timeout(operations.run("release", () => backing.release(key, identifier, permits)), left)
        : Effect.void
    })

  const settleAndRelease = Effect.gen(function*() {
    yield* operations.settle
    let released = yield* Effect.exit(release(operations.lastExtension() ?? (yield* Instant.now)))
    // A driver that can't be interrupted may let an acquire land even now, or a release, on the next holder of this name.
    while (operations.inFlight()) {
      yield* operations.landed
      released = yield* Effect.exit(release(yield* Instant.now))
    }
    yield* released
  }).pipe(
    Effect.timeout(Duration.times(ttl, 2)),
    Effect.ensuring(operations.abandon),
    Effect.ignoreCause({
      log: "Debug",
      message: `The permits of "${key}" could not be given back: they are free again when their lease has expired`
    })
  )

  const giveBack = Effect.suspend(() => {
    name.giveBack()
    return Effect.tap(
      Effect.forkDetach(inBackground(name.isOwn() ? settleAndRelease : operations.abandon), { startImmediately: true }),
      (fiber) => Effect.sync(() => fiber.addObserver(name.leave))
    )
  })

  return {
    config,
    acquisition,
    name,
    ask: (options) => whileStale(ask(options)),
    refresh,
    confirm,
    mayHold: () => asked,
    inFlight: operations.inFlight,
    lastFailure: operations.lastFailure,
    giveBack,
    abandon: Effect.andThen(operations.abandon, Effect.sync(name.leave)),
    millisLeft
  }
}

/**
 * Gives back and waits for it, half a second at most: nobody is kept on a dead store.
 */
export const giveBackBriefly = (holder: Holder): Effect.Effect<void> =>
  Effect.flatMap(
    holder.giveBack,
    (fiber) => fiber.pollUnsafe() ? Effect.void : Effect.asVoid(Effect.timeoutOption(Fiber.await(fiber), "500 millis"))
  )
