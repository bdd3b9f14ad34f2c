/** What a contender asks its store for: permits, the confirmation of a hold, and in the end to take it all back. */
import { Duration, Effect, Fiber } from "effect"
import type { SemaphoreBackingError } from "../Errors.ts"
import { LockNotAcquiredError } from "../Errors.ts"
import * as Attempt from "./attempt.ts"
import { stayAwake } from "./background.ts"
import type { Answer, Contender, Turn } from "./contender.ts"
import { isGranted } from "./contender.ts"
import * as Subscriptions from "./subscriptions.ts"

/** How long an interruption, and the end of a scope, wait for a store that may not answer. */
const patienceMillis = 500

/** Asks for the permits; with `queue`, takes or keeps a place in line. */
export const tryAcquire = (contender: Contender, queue: boolean): Effect.Effect<Answer, SemaphoreBackingError> => {
  const { config: { attemptLimit, key, limit, ttl }, keeper: { backing }, request: { identifier, permits } } = contender
  contender.mayHave = true
  return backing.tryAcquire(key, identifier, ttl, limit, permits, { queue, within: attemptLimit })
}

/** What failed or was given up may have taken effect, or may do so yet. */
export const abandon = (contender: Contender, fiber: Fiber.Fiber<unknown, unknown>): void => {
  contender.uncertain = true
  if (fiber.pollUnsafe() !== undefined) return
  const late = contender.late ??= new Set()
  late.add(fiber)
  fiber.addObserver(() => late.delete(fiber))
}

/** Whether permits were given. An answer that comes when the lease is over already grants nothing: the question is repeated. */
const question = (
  contender: Contender,
  name: "tryAcquire" | "refresh",
  operation: () => Effect.Effect<Answer, SemaphoreBackingError>
): Effect.Effect<Answer, SemaphoreBackingError> => {
  const { config: { attemptLimit: limit, backingFailureRetryPolicy }, keeper } = contender
  const attempt = Effect.suspend(() => {
    const sent = contender.sent = keeper.now()
    return Effect.map(
      Attempt.run(keeper, { name, operation, limit }, (fiber) => {
        // A late refresh creates nothing (B5).
        if (name === "tryAcquire") abandon(contender, fiber)
      }),
      (answer) => {
        contender.renewed = sent
        if (typeof answer === "object") contender.token = answer.fencingToken
        return answer
      }
    )
  })
  return Effect.flatMap(
    Attempt.repeat(attempt, backingFailureRetryPolicy),
    (answer) =>
      isGranted(answer) && contender.isStale()
        ? question(contender, name, operation)
        : Effect.succeed(answer)
  )
}

/** Acquires the permits if they are free. */
export const ask = (contender: Contender, queue = false): Effect.Effect<Answer, SemaphoreBackingError> =>
  Effect.tap(question(contender, "tryAcquire", () => tryAcquire(contender, queue)), (answer) => {
    if (answer === false) contender.mayHave = contender.uncertain
    return Effect.void
  })

/** Acquires the permits, and waits for them if need be. A place that is lost is taken anew. */
export const acquire = (contender: Contender): Effect.Effect<void, LockNotAcquiredError | SemaphoreBackingError> => {
  const stood = Subscriptions.timesStood(contender)
  return Effect.flatMap(ask(contender, true), (answer) => {
    if (isGranted(answer)) return Effect.void
    let leave = () => {}
    const turn = Effect.callback((resume: (turn: Turn) => void) => {
      const sleepAgain = stayAwake()
      contender.wait(answer, resume)
      const unsubscribe = Subscriptions.join(contender, stood)
      leave = () => {
        sleepAgain()
        unsubscribe()
      }
    })
    return Effect.flatMap(
      Effect.ensuring(turn, Effect.sync(() => leave())),
      (turn) => turn === "granted" ? Effect.void : acquire(contender)
    )
  })
}

/** Takes over permits that were acquired externally; whether there are any. */
export const confirm = (contender: Contender): Effect.Effect<boolean, SemaphoreBackingError> => {
  const { config: { key, limit, ttl }, keeper: { backing }, name, request: { identifier, permits } } = contender
  const refresh = question(contender, "refresh", () => backing.refresh(key, identifier, ttl, limit, permits))
  return Effect.flatMap(name.givenBack(), () => {
    const { other } = name
    return Effect.flatMap(refresh, (answer) => {
      if (!isGranted(answer)) return Effect.succeed(false)
      // If it was given back meanwhile, the answer is out of date.
      return name.takeOver(other) ? Effect.succeed(true) : confirm(contender)
    })
  })
}

/** Gives back what the store may have given, and waits for that half a second at most. */
export const giveBackBriefly = (contender: Contender): Effect.Effect<void> =>
  Effect.suspend(() => {
    const fiber = giveBack(contender)
    if (fiber.pollUnsafe() !== undefined) return Effect.void
    return Effect.callback<void>((resume) => {
      const sleepAgain = stayAwake()
      const done = () => {
        sleepAgain()
        contender.keeper.cancel(alarm)
        resume(Effect.void)
      }
      const alarm = contender.keeper.setAlarm(patienceMillis, done)
      fiber.addObserver(done)
    })
  })

/**
 * Starts to give back, in the background, what the store may have given. Nothing is released that another acquisition has taken
 * over, or whose lease is over by now.
 */
export const giveBack = (contender: Contender): Fiber.Fiber<void> => {
  const { keeper, mayHave, name } = contender
  keeper.drop(contender)
  name.giveBack()
  const fiber = keeper.run(mayHave && name.isOwn ? settleAndRelease(contender) : Effect.void)
  fiber.addObserver(() => contender.leaveName())
  return fiber
}

/** What is under way is settled first: within its time limit, it may end by itself. */
const settleAndRelease = (contender: Contender): Effect.Effect<void> => {
  const { config: { attemptLimit, key, ttl }, late = [], renewing } = contender
  const released = Effect.exit(
    Effect.suspend(() => release(contender, contender.sent + Duration.toMillis(ttl)))
  )
  const underWay = renewing === undefined ? Array.from(late) : [...late, renewing]
  const settled = underWay.length === 0
    ? released
    : Effect.andThen(Effect.timeoutOption(Fiber.awaitAll(underWay), attemptLimit), released)
  return Effect.flatMap(
    settled,
    (exit) => contender.late?.size ? Effect.timeout(releaseLate(contender), Duration.times(ttl, 2)) : exit
  ).pipe(
    Effect.ignoreCause({
      log: "Debug",
      message: `The permits of "${key}" could not be given back: they are free again when their lease has expired`
    })
  )
}

/** A driver that can't be interrupted may let an acquire land even now, or a release, on the next holder of this name. */
const releaseLate = (contender: Contender): Effect.Effect<void, SemaphoreBackingError> =>
  Fiber.awaitAll(contender.late!).pipe(
    Effect.andThen(
      Effect.suspend(() =>
        Effect.exit(release(contender, contender.keeper.now() + Duration.toMillis(contender.config.ttl)))
      )
    ),
    Effect.flatMap((exit) => contender.late!.size > 0 ? releaseLate(contender) : exit)
  )

/** Repeated until the lease is over. Then there is nothing left to release. */
const release = (contender: Contender, end: number): Effect.Effect<void, SemaphoreBackingError> => {
  const { config, keeper, request: { identifier, permits }, token } = contender
  if (end <= keeper.now()) return Effect.void
  const operation = () => keeper.backing.release(config.key, identifier, permits, { fencingToken: token })
  const attempt = Attempt.run(
    keeper,
    { name: "release", operation, limit: config.attemptLimit },
    (fiber) => abandon(contender, fiber),
    true
  )
  const timeLeft = () => Duration.millis(Math.max(0, end - keeper.now()))
  return Effect.map(Attempt.repeat(attempt, config.backingFailureRetryPolicy, timeLeft), () => {
    contender.mayHave = false
  })
}
