/** Waiting for permits: once for a store that grants, once for one that does not, and nowhere else. */
import { Duration, Effect, Latch, Option, Stream } from "effect"
import { LockNotAcquiredError } from "../Errors.ts"
import type { SemaphoreBackingError } from "../Errors.ts"
import type { Acquisition, Refused, Waits } from "./acquisition.ts"
import type { Contender } from "./contender.ts"
import * as Delays from "./delays.ts"
import * as Subscriptions from "./subscriptions.ts"

type Errors = LockNotAcquiredError | SemaphoreBackingError

/** Asks, and waits until the permits are granted. */
export const acquire = (acquisition: Acquisition): Effect.Effect<Contender, Errors> =>
  Effect.flatMap(acquisition.ask(true), (answer) => {
    if (answer._tag === "Granted") return Effect.succeed(acquisition.contender(answer))
    return answer._tag === "Waiting" && answer.fencingToken !== undefined
      ? inLine(acquisition, answer)
      : byAsking(acquisition, answer)
  })

const notAcquired = ({ config: { key }, request: { identifier } }: Acquisition) =>
  Effect.fail(new LockNotAcquiredError({ key, identifier }))

/** The store grants the place, and the keeper keeps it. If it is lost, a new one is taken. */
const inLine = (acquisition: Acquisition, answer: Waits): Effect.Effect<Contender, Errors> => {
  const { config: { acquireRetryPolicy }, keeper } = acquisition
  const contender = acquisition.contender(answer)
  const turn = Effect.callback<"granted" | "gone", SemaphoreBackingError>((resume) => {
    contender.wait(answer, (turn) => {
      Subscriptions.leave(keeper, contender)
      resume(turn)
    })
    Subscriptions.join(keeper, contender)
    return Effect.sync(() => {
      Subscriptions.leave(keeper, contender)
      keeper.drop(contender)
    })
  })
  const polled = acquireRetryPolicy === undefined ? turn : Effect.raceFirst(
    turn,
    Effect.flatMap(Delays.make(acquireRetryPolicy), (next) =>
      next(undefined).pipe(
        Effect.flatMap((millis) => millis === undefined ? notAcquired(acquisition) : Effect.sleep(millis)),
        Effect.andThen(Effect.sync(() => contender.look())),
        Effect.forever
      ))
  )
  return Effect.flatMap(polled, (turn) => turn === "granted" ? Effect.succeed(contender) : acquire(acquisition))
}

/** Asks again at the first of: a signal, the time by which a place must be renewed, the next poll. */
const byAsking = Effect.fnUntraced(function*(acquisition: Acquisition, firstAnswer: Waits | Refused) {
  const { config, keeper, request: { identifier } } = acquisition
  const next = config.acquireRetryPolicy && (yield* Delays.make(config.acquireRetryPolicy))
  const signal = Latch.makeUnsafe(false)

  const listening = Effect.suspend(() =>
    Stream.runForEach(keeper.backing.onPermitsReleased?.(config.key, identifier) ?? Stream.empty, () => signal.open)
  )

  const asking = Effect.gen(function*() {
    let answer = firstAnswer
    /** A policy's pause lasts until the next poll, whatever is heard meanwhile; otherwise each answer decides anew. */
    let pollAt: number | undefined
    while (true) {
      if (pollAt === undefined) {
        const pause = next === undefined ? pollMillis(acquisition, answer) : yield* next(undefined)
        if (pause === undefined) return yield* notAcquired(acquisition)
        pollAt = keeper.now() + pause
      }
      const untilPoll = Math.max(0, pollAt - keeper.now())
      const untilRenewal = renewalMillis(acquisition, answer)
      const heard = yield* Effect.timeoutOption(signal.await, Math.min(untilPoll, untilRenewal))
      if (next === undefined || Option.isNone(heard) && untilPoll <= untilRenewal) pollAt = undefined
      signal.closeUnsafe()
      const asked = yield* acquisition.ask(true)
      if (asked._tag === "Granted") return acquisition.contender(asked)
      answer = asked
    }
  })

  // It is not waited for: a subscription may hang on a store that does not answer.
  const listener = keeper.run(Effect.ignoreCause(listening))
  return yield* Effect.ensuring(asking, Effect.sync(() => listener.interruptUnsafe()))
})

/** Milliseconds until a waiter that nobody notifies asks again: the further back it stands, the less often. */
const pollMillis = ({ config }: Acquisition, answer: Waits | Refused): number => {
  if (answer._tag === "Waiting" && answer.retryAfter !== undefined) return Number.POSITIVE_INFINITY
  return Duration.toMillis(config.acquireRetryInterval) * (answer._tag === "Waiting" ? answer.position + 1 : 1)
}

/** Keeps a backing that rounds down to nothing from being asked without a pause. */
const leastRenewalMillis = 10

/** Milliseconds until a place must be renewed, or its backing wants to be asked. */
const renewalMillis = ({ config: { ttl } }: Acquisition, answer: Waits | Refused): number => {
  if (answer._tag === "Refused") return Number.POSITIVE_INFINITY
  return Math.max(leastRenewalMillis, Duration.toMillis(answer.retryAfter ?? Duration.divideUnsafe(ttl, 3)))
}
