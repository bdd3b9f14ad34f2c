/** B10: looks change nothing. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"

export const cases = [
  leaseCase(
    "B10",
    "a look does not extend a lease",
    [],
    ({ eventually, expire, processes, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, key } = semaphore(1)
        yield* acquires("a", 1, short)
        yield* processes[0]!.getCount(key, Duration.hours(1))
        yield* expire(short)
        yield* eventually("a hold that is looked at expires", Effect.map(count, (held) => held === 0))
      })
  ),

  backingCase(
    "B10",
    "a look changes nothing that can be seen",
    ["inspect"],
    ({ options, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, inspect, key } = semaphore(3)
        equal(
          yield* inspect,
          { holders: [], line: [], holderCount: 0, waiterCount: 0 },
          `what is known of ${key}, which nobody has used`
        )
        yield* acquires("a", 2)
        yield* acquires("b", 1)
        if (options.has("queue")) yield* semaphore(3, key).waits("c", 2)
        const look = Effect.map(inspect, ({ holders, line }) => ({
          holders: holders.map(({ fencingToken, identifier, permits }) => ({ fencingToken, identifier, permits })),
          line: line.map(({ identifier, permits }) => ({ identifier, permits }))
        }))
        const first = yield* look
        equal(yield* count, 3, "permits held")
        equal(yield* count, 3, "permits held, asked for again")
        equal(yield* look, first, "what is known, asked for again")
        equal(
          { holders: first.holders.map(({ identifier, permits }) => [identifier, permits]), line: first.line },
          {
            holders: [["a", 2], ["b", 1]],
            line: options.has("queue") ? [{ identifier: "c", permits: 2 }] : []
          },
          "who holds and who waits"
        )
      })
  ),

  backingCase(
    "B10",
    "inspect shows the time left of holds and places",
    ["inspect"],
    ({ long, options, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, inspect, key } = semaphore(1)
        yield* acquires("a", 1)
        if (options.has("queue")) yield* semaphore(1, key).waits("b", 1)
        const { holders, line } = yield* inspect
        for (const { identifier, remaining } of [...holders, ...line]) {
          isTrue(
            Duration.isLessThanOrEqualTo(remaining, Duration.sum(long, options.granularity))
              && Duration.isGreaterThan(remaining, Duration.subtract(long, Duration.seconds(30))),
            `the time left of ${identifier} is ${Duration.format(remaining)}, of a ttl of ${Duration.format(long)}`
          )
        }
        yield* acquires("a", 1, short)
        const after = yield* inspect
        isTrue(
          after.holders.every(({ remaining }) =>
            Duration.isLessThanOrEqualTo(remaining, Duration.sum(short, options.granularity))
          ),
          "the time left of a hold follows its last ttl"
        )
      })
  )
]
