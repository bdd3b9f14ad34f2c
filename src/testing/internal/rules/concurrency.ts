/** B9: each operation is atomic. The histories test that in full, with random operations. */
import * as Effect from "effect/Effect"
import { backingCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"

const ids = Array.from({ length: 24 }, (_, index) => `holder ${index}`)

export const cases = [
  backingCase(
    "B9",
    "of many that ask at once, exactly as many acquire as there are permits",
    [],
    ({ long, processOf, semaphore }) =>
      Effect.gen(function*() {
        for (let round = 0; round < 5; round++) {
          const { count, key } = semaphore(5)
          const answers = yield* Effect.forEach(ids, (id) => processOf(id).tryAcquire(key, id, long, 5, 1), {
            concurrency: "unbounded"
          })
          equal(answers.filter((answer) => answer !== false).length, 5, "how many got one of five permits")
          equal(yield* count, 5, "permits held")
        }
      })
  ),

  backingCase(
    "B9",
    "of many that join the line at once, each gets a place and a number of its own",
    ["queue"],
    ({ long, processOf, semaphore }) =>
      Effect.gen(function*() {
        for (let round = 0; round < 5; round++) {
          const { key } = semaphore(1)
          const answers = yield* Effect.forEach(
            ids,
            (id) => processOf(id).tryAcquire(key, id, long, 1, 1, { queue: true }),
            { concurrency: "unbounded" }
          )
          const places = answers.flatMap((answer) =>
            typeof answer === "object" && answer._tag === "Waiting" ? [answer] : []
          ).toSorted((a, b) => a.position - b.position)
          equal(places.map(({ position }) => position), ids.slice(1).map((_, index) => index), "positions")
          const tokens = places.map(({ fencingToken }) => fencingToken!)
          isTrue(
            tokens.every((token, index) => index === 0 || token > tokens[index - 1]!),
            `tokens must rise along the line, got ${tokens.join(", ")}`
          )
        }
      })
  ),

  backingCase("B9", "releases at once free each hold once", [], ({ processes, semaphore }) =>
    Effect.gen(function*() {
      const { acquires, count, key } = semaphore(ids.length)
      for (const id of ids) yield* acquires(id, 1)
      const freed = yield* Effect.forEach(
        [...ids, ...ids],
        (id, index) => processes[index % processes.length]!.release(key, id, 1),
        { concurrency: "unbounded" }
      )
      equal(freed.reduce((sum, permits) => sum + permits, 0), ids.length, "permits freed by two releases of each")
      equal(yield* count, 0, "permits held")
    })),

  backingCase(
    "B9",
    "of many that join and release at once, as many hold in the end as there are permits",
    ["queue"],
    ({ long, processOf, processes, semaphore }) =>
      Effect.gen(function*() {
        for (let round = 0; round < 5; round++) {
          const { acquires, count, key } = semaphore(ids.length)
          for (const id of ids) yield* acquires(id, 1)
          yield* Effect.forEach(
            ids,
            (id, index) =>
              Effect.andThen(
                processOf(`next ${id}`).tryAcquire(key, `next ${id}`, long, ids.length, 1, { queue: true }),
                processes[index % processes.length]!.release(key, id, 1)
              ),
            { concurrency: "unbounded" }
          )
          equal(yield* count, ids.length, "permits held")
        }
      })
  ),

  backingCase(
    "B9",
    "refreshes of one hold at once all succeed",
    [],
    ({ long, processes, semaphore }) =>
      Effect.gen(function*() {
        for (let round = 0; round < 5; round++) {
          const { acquires, count, key } = semaphore(1)
          yield* acquires("a", 1)
          const answers = yield* Effect.forEach(
            ids,
            (_, index) => processes[index % processes.length]!.refresh(key, "a", long, 1, 1),
            { concurrency: "unbounded" }
          )
          equal(answers.filter((answer) => answer === false).length, 0, "how many were answered that the hold is gone")
          equal(yield* count, 1, "permits held")
        }
      })
  )
]
