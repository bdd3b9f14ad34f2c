/**
 * Waiting for permits: the only place where it is written.
 *
 * Ask; if the answer is to wait, subscribe, and ask again at the first of: a signal, the time the backing names, the
 * polling interval. The first question comes before the subscription, because an uncontended acquire needs none. What is
 * released between the two is not missed: the subscription signals once when it stands, and so leads to another look.
 */
import { Duration, Effect, Latch, Option, Stream } from "effect"
import type { DistributedSemaphoreBacking, Waiting } from "../Backing.ts"
import { LockNotAcquiredError } from "../Errors.ts"
import type { Answer, Holder, Refused } from "./holder.ts"
import type { ResolvedConfig } from "./options.ts"

export const acquire = Effect.fnUntraced(function*(backing: DistributedSemaphoreBacking, holder: Holder) {
  const answer = yield* holder.ask({ queue: true })
  return answer._tag === "Granted" ? answer : yield* wait(backing, holder, answer)
})

const wait = Effect.fnUntraced(function*(
  backing: DistributedSemaphoreBacking,
  holder: Holder,
  firstAnswer: Waiting | Refused
) {
  const { config, acquisition: { identifier } } = holder
  const signal = Latch.makeUnsafe(false)
  let policyEnded = false

  const subscription = backing.onPermitsReleased === undefined
    ? Effect.void
    : Stream.runForEach(backing.onPermitsReleased(config.key, identifier), () => signal.open)

  const policy = Option.match(config.acquireRetryPolicy, {
    onNone: () => Effect.void,
    onSome: (policy) =>
      Effect.andThen(
        Effect.schedule(signal.open, policy),
        Effect.sync(() => {
          policyEnded = true
          signal.openUnsafe()
        })
      )
  })

  const looking = Effect.gen(function*() {
    let answer: Answer = firstAnswer
    while (answer._tag !== "Granted") {
      if (policyEnded) return yield* new LockNotAcquiredError({ key: config.key, identifier })
      yield* Effect.timeoutOption(signal.await, pause(config, answer))
      signal.closeUnsafe()
      answer = yield* holder.ask({ queue: true })
    }
    return answer
  })

  return yield* alongside([subscription, policy], looking)
})

/** The longest time until the next look. */
const pause = (config: ResolvedConfig, answer: Waiting | Refused): Duration.Duration => {
  const { acquireRetryInterval, acquireRetryPolicy, ttl } = config
  const polled = Option.isNone(acquireRetryPolicy)
  if (answer._tag === "Refused") return polled ? acquireRetryInterval : Duration.infinity
  if (answer.retryAfter !== undefined) return answer.retryAfter
  const renewal = Duration.divideUnsafe(ttl, 3)
  return polled ? Duration.min(Duration.times(acquireRetryInterval, answer.position + 1), renewal) : renewal
}

/**
 * Runs helpers while `main` runs. They are interrupted when it ends, and not waited for: a subscription may hang on a
 * store that does not answer.
 */
const alongside = <A, E, R>(helpers: ReadonlyArray<Effect.Effect<void>>, main: Effect.Effect<A, E, R>) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forEach(helpers, (helper) => Effect.forkDetach(Effect.ignoreCause(helper), { startImmediately: true })),
      (fibers) => Effect.ensuring(restore(main), Effect.sync(() => fibers.forEach((fiber) => fiber.interruptUnsafe())))
    )
  )
