/** Plays random sequences of operations, one after the other, and compares each answer with the model's. */
import * as Arbitrary from "effect/Arbitrary"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { backingCase } from "../../BackingCase.ts"
import { fail } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { now } from "../subject.ts"
import * as Answers from "./answers.ts"
import { describeAnswer, describeExpected, describeOperation, describeSpan } from "./descriptions.ts"
import * as Grants from "./grants.ts"
import type { Call, State } from "./model.ts"
import * as Model from "./model.ts"
import { check } from "./property.ts"
import type { Step } from "./random.ts"
import * as Random from "./random.ts"

/** B3: the bounds of retryAfter. Answers how it is out of them. */
const wrongRetryAfter = ({ options }: Subject, { answer, operation }: Call): string | undefined => {
  if (typeof answer !== "object" || !("position" in answer) || answer.retryAfter === undefined) return
  const ttl = Duration.nanos("ttl" in operation ? operation.ttl : 0n)
  const bound = answer.position === 0 ? Duration.min(ttl, Duration.seconds(1)) : Duration.divideUnsafe(ttl, 3)
  const rounding = Duration.max(options.granularity, Duration.millis(1))
  if (Duration.isLessThanOrEqualTo(answer.retryAfter, Duration.sum(bound, rounding))) return
  return `retryAfter of the last answer is ${Duration.format(answer.retryAfter)}, more than ${Duration.format(bound)}`
}

/** Plays a sequence; dies at the first answer that the model does not allow, with all that led to it. */
const play = Effect.fnUntraced(function*(subject: Subject, steps: ReadonlyArray<Step>) {
  const { options } = subject
  const precision = Random.precisionOf(subject)
  const keys = Random.keysOf(subject)
  const states: [ReadonlyArray<State>, ReadonlyArray<State>] = [[Model.empty], [Model.empty]]
  const tokens = Random.makeTokens()
  const transcript: Array<string> = []
  const start = yield* now
  const grants = options.has("push") && options.has("queue") ? yield* Grants.make(subject, keys) : undefined

  const compare = (key: 0 | 1, call: Call) => {
    const before = states[key]
    const after = Model.distinct(before.flatMap((state) => Answers.after(state, call, precision)))
    transcript.push(
      `${key === 0 ? "key  " : "key_b"}  ${describeOperation(call.operation)}`
        + `  →  ${describeAnswer(call.answer)}  ${describeSpan(call.at, start)}`
    )
    if (after.length === 0) {
      const right = before.flatMap((state) => Answers.expected(state, call, precision)).map(describeExpected)
      fail(
        `the last answer is not the model's:\n${transcript.join("\n")}\nright would be: ${
          Array.from(new Set(right)).join(", or ")
        }`
      )
    }
    states[key] = after
  }

  for (const step of steps) {
    const planned = Random.operationsOf(subject, step, tokens)
    if (planned.length === 0) {
      const time = Random.timeOf(subject, step)
      transcript.push(`       ${Duration.format(time)} pass`)
      yield* subject.pass(time)
      continue
    }
    const askers = new Set(planned.flatMap(({ operation }) => "id" in operation ? [operation.id] : []))
    const process = step.process % subject.processes.length
    for (const { call, key } of yield* Random.calls(subject.processes[process]!, keys, planned)) {
      const before = states[key]
      compare(key, call)
      tokens.remember(key, call)
      grants?.remember(process, key, call)
      const wrong = wrongRetryAfter(subject, call)
        ?? (grants && (yield* grants.examine(key, call, askers, before, states[key])))
      if (wrong !== undefined) fail(`${wrong}:\n${transcript.join("\n")}`)
    }
  }

  // In the end it looks at everything.
  for (const key of [0, 1] as const) {
    for (const _tag of options.has("inspect") ? ["getCount", "inspect"] as const : ["getCount"] as const) {
      const calls = yield* Random.calls(subject.processes[0]!, keys, [{ key, operation: { _tag } }])
      for (const { call } of calls) compare(key, call)
    }
  }
})

export const cases = [
  backingCase("B1-B11", "random sequences of operations are answered as by the model", [], (subject) =>
    check(
      subject,
      Arbitrary.array(Random.step, { maxLength: 60 }),
      (steps) => Effect.scoped(play(subject, steps)),
      { runs: subject.options.sequences, inRealTime: 64 }
    ))
]
