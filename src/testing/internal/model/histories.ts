/**
 * Concurrent histories: several clients, in several processes, do random operations at the same time. The case records their
 * requests and answers, and then decides whether the answers can be those of a semaphore.
 */
import * as Arbitrary from "effect/Arbitrary"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { backingCase } from "../../BackingCase.ts"
import { fail } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { describeAnswer, describeOperation, describeSpan } from "./descriptions.ts"
import { linearize } from "./linearizability.ts"
import type { Call } from "./model.ts"
import { fifoViolation, grantViolation, limitViolation, tokenViolation } from "./order.ts"
import { check } from "./property.ts"
import type { Step } from "./random.ts"
import * as Random from "./random.ts"

/** A call, and when it began and ended among all others. */
export interface Recorded extends Call {
  readonly client: number
  readonly invoked: number
  readonly returned: number
}

/** Lets all clients do their steps at the same time, each in its process. */
const record = Effect.fnUntraced(function*(subject: Subject, clients: ReadonlyArray<ReadonlyArray<Step>>) {
  const keys = Random.keysOf(subject)
  const histories = new Map<string, Array<Recorded>>(keys.map((key) => [key, []]))
  const tokens = Random.makeTokens()
  let moment = 0

  const client = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, index: number) {
    for (const step of steps) {
      yield* Effect.yieldNow
      // All share one limit: the checks could be certain of hardly anything otherwise. Sequences have different limits.
      const planned = Random.operationsOf(subject, { ...step, limit: Random.sharedLimit }, tokens)
      if (planned.length === 0) {
        yield* Effect.sleep(Random.timeOf(subject, step))
        continue
      }
      const invoked = moment++
      const backing = subject.processes[index % subject.processes.length]!
      const calls = yield* Random.calls(backing, keys, planned)
      const returned = moment++
      for (const { call, key } of calls) {
        tokens.remember(key, call)
        histories.get(keys[key])!.push({ ...call, client: index, invoked, returned })
      }
    }
  })

  const all = yield* Effect.forkScoped(
    Effect.forEach(clients, client, { concurrency: "unbounded", discard: true }),
    { startImmediately: true }
  )
  // The longest time that a client can let pass.
  const longest = Duration.times(Duration.sum(subject.short, subject.options.granularity), 3 * maxSteps)
  yield* subject.drive(Fiber.join(all), Duration.sum(longest, Duration.seconds(30)))
  return Array.from(histories.values(), (history) => history.toSorted((a, b) => a.invoked - b.invoked))
})

const maxClients = 6
const maxSteps = 10

/** One line for each call; the bars show which were under way at the same time. */
const show = (history: ReadonlyArray<Recorded>): string => {
  const moments = history.flatMap(({ invoked, returned }) => [invoked, returned]).toSorted((a, b) => a - b)
  const columnOf = new Map(moments.map((moment, index) => [moment, index]))
  return history.map((call) => {
    const [from, to] = [columnOf.get(call.invoked)!, columnOf.get(call.returned)!]
    const bar = `${" ".repeat(from)}├${"─".repeat(to - from - 1)}┤`.padEnd(moments.length)
    return `client ${call.client} ${bar}  ${describeOperation(call.operation)}  →  ${describeAnswer(call.answer)}  ${
      describeSpan(call.at, history[0]!.at.earliest)
    }`
  }).join("\n")
}

/** Records histories until none is of a time in which leases lasted too long: those would not agree with the model. */
const recordTimely = (
  subject: Subject,
  clients: ReadonlyArray<ReadonlyArray<Step>>
): ReturnType<typeof record> =>
  Effect.gen(function*() {
    const before = yield* subject.options.epoch
    const histories = yield* record(subject, clients)
    return (yield* subject.options.epoch) === before ? histories : yield* recordTimely(subject, clients)
  })

const examine = Effect.fnUntraced(function*(subject: Subject, clients: ReadonlyArray<ReadonlyArray<Step>>) {
  for (const history of yield* recordTimely(subject, clients)) {
    const violation = limitViolation(history) ?? fifoViolation(history) ?? tokenViolation(history)
      ?? grantViolation(history) ?? linearize(history, Random.precisionOf(subject), subject.options.standsLater)
    if (violation !== undefined) fail(`${violation}\n${show(history)}`)
  }
})

export const cases = [
  backingCase("B9", "concurrent histories are linearizable, and keep limit, order and tokens", [], (subject) =>
    check(
      subject,
      Arbitrary.array(Arbitrary.array(Random.step, { maxLength: maxSteps }), { minLength: 2, maxLength: maxClients }),
      (clients) => Effect.scoped(examine(subject, clients)),
      { runs: subject.options.histories, inRealTime: 32 }
    ))
]
