/** Turns a schedule into a source of pauses. */
import { Clock, Duration, Effect, Pull, Schedule } from "effect"

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
