/** Random sequences of operations, one after the other, each answer compared with the model's. */
import { Arbitrary, Duration, Effect, Stream } from "effect"
import { backingCase } from "../../BackingCase.ts"
import { fail, isTrue, show } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { now } from "../subject.ts"
import type { Call, State } from "./model.ts"
import * as Model from "./model.ts"
import { check } from "./property.ts"
import type { Step } from "./random.ts"
import * as Random from "./random.ts"

/** Subscribes every holder of both keys in every process, and counts what it hears. */
const listen = Effect.fnUntraced(function*(subject: Subject, keys: ReadonlyArray<string>) {
  const heard = new Map<string, number>()
  const nameOf = (process: number, key: string, id: string) => show([process, key, id])
  for (const [process, backing] of subject.processes.entries()) {
    for (const key of keys) {
      for (const id of Random.ids) {
        const name = nameOf(process, key, id)
        const count = Effect.sync(() => heard.set(name, (heard.get(name) ?? 0) + 1))
        yield* Effect.forkScoped(Stream.runForEach(backing.onPermitsReleased!(key, id), () => count), {
          startImmediately: true
        })
      }
    }
  }
  const all = subject.processes.length * keys.length * Random.ids.length
  yield* subject.eventually("all subscriptions stand", () => heard.size === all)
  return (process: number, key: string, id: string) => heard.get(nameOf(process, key, id)) ?? 0
})

/** B3: the bounds of retryAfter. */
const checkRetryAfter = ({ options }: Subject, { answer, operation }: Call) => {
  if (typeof answer !== "object" || !("position" in answer) || answer.retryAfter === undefined) return
  const ttl = Duration.nanos("ttl" in operation ? operation.ttl : 0n)
  const bound = answer.position === 0 ? Duration.min(ttl, Duration.seconds(1)) : Duration.divideUnsafe(ttl, 3)
  const rounding = Duration.max(options.granularity, Duration.millis(1))
  isTrue(
    Duration.isLessThanOrEqualTo(answer.retryAfter, Duration.sum(bound, rounding)),
    `retryAfter at position ${answer.position}, with a ttl of ${Duration.format(ttl)}: ${
      Duration.format(answer.retryAfter)
    }`
  )
}

/** Plays a sequence; dies at the first answer that the model does not allow, with all that led to it. */
const play = Effect.fnUntraced(function*(subject: Subject, steps: ReadonlyArray<Step>) {
  const { options } = subject
  const precision = Random.precisionOf(subject)
  const keys = Random.keysOf(subject)
  const states = new Map<string, ReadonlyArray<State>>(keys.map((key) => [key, [Model.empty]]))
  const transcript: Array<string> = []
  const start = yield* now
  const heard = options.has("push") && options.has("queue") ? yield* listen(subject, keys) : undefined
  /** In which process each waiter asked last: there it is told. */
  const askedIn = new Map<string, number>()

  const compare = (key: string, call: Call) => {
    const before = states.get(key)!
    const after = Model.distinct(before.flatMap((state) => Model.after(state, call, precision)))
    transcript.push(
      `${keys.indexOf(key) === 0 ? "key  " : "key_b"}  ${Random.describeOperation(call.operation)}`
        + `  →  ${Random.describeAnswer(call.answer)}  ${Random.describeSpan(call.at, start)}`
    )
    if (after.length === 0) {
      const right = before.flatMap((state) => Model.expected(state, call, precision)).map(Random.describeExpected)
      fail(
        `the last answer is not the model's:\n${transcript.join("\n")}\nright would be: ${
          Array.from(new Set(right)).join(", or ")
        }`
      )
    }
    states.set(key, after)
  }

  for (const step of steps) {
    const operation = Random.operationOf(subject, step)
    if (operation === undefined) {
      const time = Random.timeOf(subject, step)
      transcript.push(`       ${Duration.format(time)} pass`)
      yield* subject.pass(time)
      continue
    }
    const key = keys[step.key]
    const before = states.get(key)!
    const placeName = (id: string) => show([key, id])
    const heardBefore = new Map(
      Random.ids.map((id) => [id as string, heard?.(askedIn.get(placeName(id)) ?? 0, key, id)])
    )
    const call = yield* Random.call(Random.processOf(subject, step), key, operation)
    compare(key, call)
    checkRetryAfter(subject, call)
    if (operation._tag === "tryAcquire" && operation.queue) {
      askedIn.set(placeName(operation.id), step.process % subject.processes.length)
    }

    // B4, B7: whatever freed the way, those are told who can go now and could not go before.
    if (heard) {
      const could = new Set(before.flatMap((state) => Model.expire(state, call.at)).flatMap(Model.ableToGo))
      const can = states.get(key)!.map(Model.ableToGo)
      const due = can[0]!.filter((id) => !could.has(id) && can.every((ids) => ids.includes(id)))
      for (const id of due) {
        const isTold = () => heard(askedIn.get(placeName(id))!, key, id) > heardBefore.get(id)!
        yield* Effect.ignoreCause(subject.eventually("", isTold))
        isTrue(isTold(), `nobody told ${show(id)} that it can go now:\n${transcript.join("\n")}`)
      }
    }
  }

  // At last, a look at everything.
  for (const key of keys) {
    for (const _tag of options.has("inspect") ? ["getCount", "inspect"] as const : ["getCount"] as const) {
      compare(key, yield* Random.call(subject.processes[0]!, key, { _tag }))
    }
  }
})

export const cases = [
  backingCase("B1-B11", "random sequences of operations are answered as by the model", [], (subject) =>
    check(
      subject,
      Arbitrary.array(Random.step, { maxLength: 60 }),
      (steps) => Effect.scoped(play(subject, steps)),
      subject.options.sequences
    ))
]
