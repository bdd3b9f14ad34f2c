/** Turns a schedule into a source of pauses. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"

/** Returns how many milliseconds to pause, or `undefined` when the schedule has ended. */
export type Delays<Input> = (input: Input) => Effect.Effect<number | undefined>

export const make = <Input>(schedule: Schedule.Schedule<unknown, Input>): Delays<Input> => {
  let steps = Effect.map(Schedule.toStep(schedule), (step) => {
    steps = Effect.succeed(step)
    return step
  })
  return (input) =>
    Effect.flatMap(
      steps,
      (step) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Pull.matchEffect(step(now, input), {
            onSuccess: ([, delay]) => Effect.succeed(Duration.toMillis(delay)),
            onFailure: Effect.failCause,
            onDone: () => Effect.succeed(undefined)
          }))
    )
}
