/** S4: only the store's clock decides. These cases change the clock of the process, so they run alone. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { backingCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"

/** Runs an effect as a client whose wall clock is wrong. */
const withClockOff = <A, E>(
  offset: Duration.Duration,
  sign: 1 | -1,
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.flatMap(Clock.Clock, (clock) => {
    const millis = sign * Duration.toMillis(offset)
    const nanos = BigInt(millis) * 1_000_000n
    const wrong: Clock.Clock = Object.create(clock, {
      currentTimeMillisUnsafe: { value: () => clock.currentTimeMillisUnsafe() + millis },
      currentTimeNanosUnsafe: { value: () => clock.currentTimeNanosUnsafe() + nanos },
      currentTimeMillis: { get: () => Effect.map(clock.currentTimeMillis, (time) => time + millis) },
      currentTimeNanos: { get: () => Effect.map(clock.currentTimeNanos, (time) => time + nanos) }
    })
    const rightNow = Date.now
    return Effect.acquireUseRelease(
      Effect.sync(() => void (Date.now = () => rightNow() + millis)),
      () => Effect.provideService(effect, Clock.Clock, wrong),
      () => Effect.sync(() => void (Date.now = rightNow))
    )
  })

export const cases = [
  backingCase(
    "S4",
    "a client whose clock is an hour off steals nothing",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const hour = Duration.hours(1)
        for (const sign of [1, -1] as const) {
          const { acquires, count, isRefused, holds } = semaphore(1)
          yield* acquires("right", 1)
          yield* withClockOff(hour, sign, isRefused("wrong", 1))
          equal(yield* withClockOff(hour, sign, count), 1, "permits held, asked for by the wrong clock")
          yield* holds("right", 1)
        }
      })
  ),

  backingCase(
    "S4",
    "a client whose clock is an hour off loses nothing, and keeps nothing too long",
    [],
    (subject) =>
      Effect.gen(function*() {
        const hour = Duration.hours(1)
        for (const sign of [1, -1] as const) {
          const { acquires, count, isRefused, holds } = subject.semaphore(1)
          yield* withClockOff(hour, sign, acquires("wrong", 1))
          yield* isRefused("right", 1)
          equal(yield* count, 1, "permits held")
          yield* withClockOff(hour, sign, holds("wrong", 1, subject.short))
          yield* subject.expire(subject.short)
          yield* acquires("right", 1)
        }
      })
  )
]
