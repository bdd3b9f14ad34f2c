/** The requests of a contender: it asks for permits, confirms a hold, and in the end gives everything back. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { SemaphoreBackingError } from "../Errors.ts"
import { LockNotAcquiredError } from "../Errors.ts"
import * as Attempt from "./attempt.ts"
import { stayAwake } from "./background.ts"
import type { Answer, Contender, Turn } from "./contender.ts"
import { isGranted } from "./contender.ts"
import * as Observation from "./observation.ts"
import * as Subscriptions from "./subscriptions.ts"

/** How long an interruption, or a scope that closes, waits for a store that may not answer. */
const patienceMillis = 500

/** Asks for the permits; with `queue`, joins the line or keeps its place there. */
export const tryAcquire = (contender: Contender, queue: boolean): Effect.Effect<Answer, SemaphoreBackingError> => {
  const { config: { attemptLimit, key, limit, ttl }, keeper: { backing }, request: { identifier, permits } } = contender
  contender.mayHave = true
  // If it asks again, it may get another place: until the answer comes, it can only be released by its identifier.
  contender.token = undefined
  return backing.tryAcquire(key, identifier, ttl, limit, permits, { queue, within: attemptLimit })
}

/** Remembers that a request was abandoned: it may have taken effect, or may still do so. */
export const abandon = (contender: Contender, fiber: Fiber.Fiber<unknown, unknown>): void => {
  contender.uncertain = true
  if (fiber.pollUnsafe() !== undefined) return
  const late = contender.late ??= new Set()
  late.add(fiber)
  fiber.addObserver(() => late.delete(fiber))
}

/** Asks until the store answers or the policy ends. An answer that comes after the lease is over grants nothing: then it asks again. */
const question = (
  contender: Contender,
  name: "tryAcquire" | "refresh",
  operation: () => Effect.Effect<Answer, SemaphoreBackingError>
): Effect.Effect<Answer, SemaphoreBackingError> => {
  const { config: { attemptLimit: limit, backingFailureRetryPolicy }, keeper } = contender
  const attempt = Effect.suspend(() => {
    const sent = keeper.now()
    contender.sends(sent)
    return Effect.map(
      Attempt.run(keeper, { name, operation, limit }, (fiber) => {
        // A late refresh creates nothing (B5).
        if (name === "tryAcquire") abandon(contender, fiber)
      }),
      (answer) => {
        contender.renewed = sent
        if (typeof answer === "object") contender.token = answer.fencingToken
        contender.meetLimit(answer)
        return answer
      }
    )
  })
  return Effect.flatMap(
    Attempt.repeat(attempt, backingFailureRetryPolicy),
    (answer) =>
      isGranted(answer) && contender.checkLease()
        ? question(contender, name, operation)
        : Effect.succeed(answer)
  )
}

/** Asks for the permits, and starts over until the answer can be relied on. With `queue` it joins the line if they are not free. */
export const ask = (contender: Contender, queue = false): Effect.Effect<Answer, SemaphoreBackingError> =>
  Effect.flatMap(question(contender, "tryAcquire", () => tryAcquire(contender, queue)), (answer) => {
    const { mustStartOver, name } = contender
    if (mustStartOver && (queue || name.claimIfUnused())) {
      return Effect.andThen(startOver(contender), ask(contender, queue))
    }
    const given = mustStartOver ? false : answer
    if (given !== false && name.isUnconfirmed(contender.token)) {
      return Effect.andThen(releaseNow(contender), ask(contender, queue))
    }
    if (given === false) contender.mayHave = contender.uncertain
    else if (isGranted(given)) contender.hold()
    return Effect.succeed(given)
  })

/** Releases what it has just been given: this may be freed by an earlier release that comes late. */
const releaseNow = (contender: Contender): Effect.Effect<unknown, SemaphoreBackingError> =>
  Attempt.repeat(
    Attempt.run(contender.keeper, releaseAttempt(contender), () => {}),
    contender.config.backingFailureRetryPolicy
  )

/** Claims the name again, if another acquisition had taken it over. */
const startOver = (contender: Contender): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { mustStartOver, name } = contender
    contender.mustStartOver = false
    return mustStartOver && !name.isOwn ? name.claim() : Effect.void
  })

/** Acquires the permits, and waits for them if need be. It joins the line again if it loses its place. */
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
      Observation.wait(contender, answer, Effect.ensuring(turn, Effect.sync(() => leave()))),
      (turn) => turn === "granted" ? Effect.void : Effect.andThen(startOver(contender), acquire(contender))
    )
  })
}

/** Takes over permits that were acquired externally. Returns whether so many are held. */
export const confirm = (contender: Contender): Effect.Effect<boolean, SemaphoreBackingError> => {
  const { config: { key, limit, ttl }, keeper: { backing }, name, request: { identifier, permits } } = contender
  const refresh = question(contender, "refresh", () => backing.refresh(key, identifier, ttl, limit, permits))
  return Effect.flatMap(name.givenBack(), () => {
    const { other } = name
    contender.mustStartOver = false
    // Claims an unused name, so that nobody acquires under it and gives back before the answer comes.
    name.claimIfUnused()
    return Effect.flatMap(refresh, (answer) => {
      if (!isGranted(answer) || name.isUnconfirmed(contender.token)) return Effect.succeed(false)
      if (answer !== true && answer.permits !== undefined) return Effect.succeed(false)
      // If another acquisition has given the hold back meanwhile, the answer is out of date.
      if (contender.mustStartOver || !name.takeOver(other)) return confirm(contender)
      contender.mayHave = true
      contender.hold()
      return Effect.succeed(true)
    })
  })
}

/** Gives back what the store may have given, and waits for that for at most half a second. */
export const giveBackBriefly = (contender: Contender): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    let ended = false
    let stopWaiting = () => {}
    giveBack(contender, () => {
      ended = true
      stopWaiting()
      resume(Effect.void)
    })
    if (ended) return
    const sleepAgain = stayAwake()
    const alarm = contender.keeper.setAlarm(patienceMillis, () => {
      sleepAgain()
      resume(Effect.void)
    })
    stopWaiting = () => {
      sleepAgain()
      contender.keeper.cancel(alarm)
    }
  })

/**
 * Starts to give back, in the background, what the store may have given. A hold that another acquisition has taken over, or whose
 * lease is over, is not released.
 */
export const giveBack = (contender: Contender, done: () => void): void => {
  const { keeper, late, mayHave, name, renewing, token } = contender
  keeper.drop(contender)
  name.giveBack()
  const end = () => {
    contender.leaveName()
    done()
  }
  if (!mayHave || !name.isOwn || contender.millisInStore() <= 0 && !late?.size) return end()
  // A renewal that comes after a release by its token finds nothing to renew (B5).
  if (late?.size || renewing !== undefined && token === undefined) {
    return void keeper.run(settleAndRelease(contender)).addObserver(end)
  }
  // The usual case needs no fiber but that of the attempt.
  Attempt.start(keeper, keeper.context, releaseAttempt(contender), (exit) => {
    if (Exit.isSuccess(exit)) {
      contender.mayHave = false
      return end()
    }
    keeper.run(settled(contender, release(contender, exit))).addObserver(end)
  })
}

/** Waits until the requests under way have ended, for as long as an attempt may last, and then releases. */
const settleAndRelease = (contender: Contender): Effect.Effect<void> => {
  const { config: { attemptLimit }, late = [], renewing } = contender
  const underWay = renewing === undefined ? Array.from(late) : [...late, renewing]
  return settled(
    contender,
    Effect.andThen(
      Effect.timeoutOption(Fiber.awaitAll(underWay), attemptLimit),
      Effect.suspend(() => release(contender))
    )
  )
}

/** Waits for a release. Then releases, too, what abandoned acquires that are still under way may yet acquire. */
const settled = (contender: Contender, released: Effect.Effect<void, SemaphoreBackingError>): Effect.Effect<void> => {
  const { config: { key, ttl } } = contender
  return Effect.flatMap(
    Effect.exit(released),
    (exit) => contender.late?.size ? Effect.timeout(releaseLate(contender), Duration.times(ttl, 2)) : exit
  ).pipe(
    Effect.ignoreCause({
      log: "Debug",
      message: `The permits of "${key}" could not be given back: they are free again when their lease has expired`
    })
  )
}

/** Waits until the abandoned acquires have ended, which a driver may not interrupt, and releases what they acquired. */
const releaseLate = (contender: Contender): Effect.Effect<void, SemaphoreBackingError> =>
  Effect.andThen(
    Fiber.awaitAll(contender.late!),
    Effect.suspend(() => {
      // When the name has been left, what the abandoned acquire got has expired: the hold may be another acquisition's now.
      if (!contender.name.isOwn) return Effect.void
      contender.sends(contender.keeper.now())
      return release(contender)
    })
  )

const releaseAttempt = (contender: Contender): Attempt.Attempt<number> => {
  const { config: { attemptLimit: limit, key }, keeper: { backing }, request: { identifier, permits }, token } =
    contender
  return {
    name: "release",
    operation: () => {
      contender.sendsRelease()
      return backing.release(key, identifier, permits, { fencingToken: token })
    },
    limit
  }
}

/**
 * Releases. A release that failed is repeated until the lease is over: then there is nothing left to release. `made` is the exit of
 * the first attempt.
 */
const release = (
  contender: Contender,
  made?: Exit.Exit<number, SemaphoreBackingError>
): Effect.Effect<void, SemaphoreBackingError> => {
  const { config: { backingFailureRetryPolicy }, keeper } = contender
  if (contender.millisInStore() <= 0) return Effect.void
  const attempt = Effect.suspend(() =>
    // The pause before it may have been longer than it should, as while the machine was suspended.
    contender.millisInStore() <= 0
      ? Effect.succeed(0)
      // An abandoned release may take effect late, but creates nothing that must be released.
      : Attempt.run(keeper, releaseAttempt(contender), () => {}, true)
  )
  const timeLeft = () => Duration.millis(Math.max(0, contender.millisInStore()))
  return Effect.map(Attempt.repeat(attempt, backingFailureRetryPolicy, timeLeft, made), () => {
    contender.mayHave = false
  })
}
