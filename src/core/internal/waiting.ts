/**
 * Waiting for permits: the only place where it is written.
 *
 * Ask; if the answer is to wait, subscribe, and ask again at the first of: a signal, the time by which the place in line
 * must be renewed, the next poll. The first question comes before the subscription, because an uncontended acquire needs
 * none. What is released between the two is not missed: the subscription signals once when it stands, and so leads to
 * another look.
 */
import { Clock, Duration, Effect, Fiber, Latch, Option, Pull, Schedule, Stream } from "effect"
import type { DistributedSemaphoreBacking, Waiting } from "../Backing.ts"
import { LockNotAcquiredError } from "../Errors.ts"
import type { Answer, Holder, Refused } from "./holder.ts"
import * as Instant from "./instant.ts"
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

  const listening = Effect.suspend(() =>
    backing.onPermitsReleased === undefined
      ? Effect.void
      : Stream.runForEach(backing.onPermitsReleased(config.key, identifier), () => signal.open)
  )

  const looking = Effect.gen(function*() {
    const policy = yield* Effect.transposeOption(Option.map(config.acquireRetryPolicy, Schedule.toStep))
    let answer: Answer = firstAnswer
    /** The time until the next poll. A policy's step lasts until then; otherwise each answer decides anew. */
    let poll: { readonly start: Instant.Instant; readonly millis: number } | undefined

    while (answer._tag !== "Granted") {
      poll ??= {
        start: yield* Instant.now,
        millis: Option.isSome(policy) ? yield* step(policy.value) : pollMillis(config, answer)
      }
      const untilPoll = poll.millis - (yield* Instant.millisSince(poll.start))
      const untilRenewal = renewalMillis(config, answer)
      const heard = yield* Effect.timeoutOption(signal.await, Math.min(untilPoll, untilRenewal))
      if (Option.isNone(policy) || Option.isNone(heard) && untilPoll <= untilRenewal) poll = undefined
      signal.closeUnsafe()
      answer = yield* holder.ask({ queue: true })
    }
    return answer
  })

  /** Milliseconds that the policy wants to pass until the next poll. */
  const step = (next: (now: number, input: unknown) => Pull.Pull<[unknown, Duration.Duration], never, unknown>) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Pull.matchEffect(next(now, undefined), {
        onSuccess: ([, delay]) => Effect.succeed(Duration.toMillis(delay)),
        onFailure: Effect.failCause,
        onDone: () => Effect.fail(new LockNotAcquiredError({ key: config.key, identifier }))
      }))

  return yield* alongside(listening, looking)
})

/** Milliseconds until a waiter that nobody notifies asks again: the further back it stands, the less often. */
const pollMillis = ({ acquireRetryInterval }: ResolvedConfig, answer: Waiting | Refused): number => {
  if (answer._tag === "Waiting" && answer.retryAfter !== undefined) return Number.POSITIVE_INFINITY
  return Duration.toMillis(acquireRetryInterval) * (answer._tag === "Waiting" ? answer.position + 1 : 1)
}

/** Keeps a backing that rounds down to nothing from being asked without a pause. */
const leastRenewalMillis = 10

/** Milliseconds until a place in line must be renewed, or its backing wants to be asked. */
const renewalMillis = ({ ttl }: ResolvedConfig, answer: Waiting | Refused): number => {
  if (answer._tag === "Refused") return Number.POSITIVE_INFINITY
  return Math.max(leastRenewalMillis, Duration.toMillis(answer.retryAfter ?? Duration.divideUnsafe(ttl, 3)))
}

/**
 * Runs `helper` while `main` runs. It is interrupted when that ends, and not waited for: a subscription may hang on a store
 * that does not answer.
 */
const alongside = <A, E, R>(helper: Effect.Effect<void>, main: Effect.Effect<A, E, R>) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDetach(Effect.ignoreCause(helper), { startImmediately: true }),
      (fiber: Fiber.Fiber<void>) => Effect.ensuring(restore(main), Effect.sync(() => fiber.interruptUnsafe()))
    )
  )
