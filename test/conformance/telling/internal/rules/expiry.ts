/** B6, S4, L2 and B10: expiry by the store's clock, and looks that change nothing. */
import { Clock, Duration, Effect } from "effect"
import { DistributedSemaphoreBacking } from "../../../../../src/core/Backing.ts"
import * as DistributedSemaphore from "../../../../../src/core/DistributedSemaphore.ts"
import { backingCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { now } from "../subject.ts"

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

const take = (subject: Subject, id: string, key: string, limit: number) =>
  DistributedSemaphore.make(key, { limit, ttl: subject.long, acquireRetryInterval: "10 millis" }).pipe(
    Effect.flatMap((semaphore) => semaphore.withPermits(limit, { identifier: id })(Effect.void)),
    Effect.provideService(DistributedSemaphoreBacking, subject.processOf(id))
  )

/** Some time for a slow machine, where time is real. */
const within = ({ options }: Subject, time: Duration.Duration) =>
  Duration.sum(
    Duration.sum(time, options.granularity),
    options.virtualTime ? Duration.millis(20) : Duration.seconds(10)
  )

export const cases = [
  backingCase(
    "B6",
    "a hold that has expired counts for nothing",
    [],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(3)
        yield* acquires("a", 2, short)
        yield* acquires("b", 1)
        yield* expire(short)
        equal(yield* count, 1, "permits held")
        equal(yield* releases("a", 2), 0, "permits freed by the one whose hold has expired")
        yield* acquires("c", 2)
        equal(yield* count, 3, "permits held")
      })
  ),

  backingCase(
    "B6",
    "a hold that has expired is not shown",
    ["inspect"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, inspect } = semaphore(2)
        yield* acquires("a", 1, short)
        yield* acquires("b", 1)
        yield* expire(short)
        const { holders } = yield* inspect
        equal(holders.map(({ identifier }) => identifier), ["b"], "holders")
      })
  ),

  backingCase(
    "B6",
    "an expired hold is acquired anew, not extended",
    [],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, isRefused } = semaphore(1)
        yield* acquires("a", 1, short)
        yield* expire(short)
        yield* acquires("b", 1)
        yield* isRefused("a", 1)
        equal(yield* count, 1, "permits held")
      })
  ),

  backingCase(
    "B6",
    "a hold does not expire before its ttl",
    [],
    ({ eventually, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count } = semaphore(1)
        const start = yield* now
        yield* acquires("a", 1, short)
        yield* eventually("the hold expires", Effect.map(count, (held) => held === 0))
        const lasted = Duration.nanos((yield* now) - start)
        isTrue(
          Duration.isGreaterThanOrEqualTo(lasted, short),
          `a hold with a ttl of ${Duration.format(short)} was gone after ${Duration.format(lasted)}`
        )
      })
  ),

  backingCase(
    "B6",
    "a caller with a short ttl does not shorten another's lease",
    [],
    ({ expire, processes, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, count, isRefused, key, refreshes } = semaphore(2)
        yield* acquires("a", 1)
        yield* expire(short)
        yield* acquires("b", 1, short)
        yield* isRefused("c", 1, short)
        equal(yield* processes[0]!.getCount(key, short), 2, "permits held, asked for with a short ttl")
        yield* expire(short)
        equal(yield* count, 1, "permits held")
        equal(yield* refreshes("a", 1), true, "whether the first still holds")
      })
  ),

  backingCase(
    "B6",
    "a caller with a long ttl does not lengthen another's lease",
    [],
    ({ expire, long, processes, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, key } = semaphore(1)
        yield* acquires("a", 1, short)
        yield* expire(short)
        equal(yield* processes[0]!.getCount(key, long), 0, "permits held, asked for with a long ttl")
        yield* acquires("b", 1, long)
      })
  ),

  backingCase(
    "B6",
    "a place that has expired counts for nothing",
    ["queue"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, isRefused, releases, waits } = semaphore(2)
        yield* acquires("a", 1)
        yield* waits("b", 2, short)
        yield* isRefused("c", 1)
        yield* expire(short)
        equal((yield* waits("d", 2)).position, 0, "the position behind a place that has expired")
        equal(yield* releases("d", 2), 0, "permits freed")
        yield* acquires("c", 1)
      })
  ),

  backingCase(
    "B6",
    "each place keeps its own ttl",
    ["queue"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires, waits } = semaphore(1)
        yield* acquires("a", 1)
        yield* waits("b", 1)
        yield* waits("c", 1, short)
        yield* expire(short)
        equal((yield* waits("d", 1, short)).position, 1, "the position")
      })
  ),

  backingCase(
    "S4",
    "a client whose clock is an hour off steals nothing",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const hour = Duration.hours(1)
        for (const sign of [1, -1] as const) {
          const { acquires, count, isRefused, refreshes } = semaphore(1)
          yield* acquires("right", 1)
          yield* withClockOff(hour, sign, isRefused("wrong", 1))
          equal(yield* withClockOff(hour, sign, count), 1, "permits held, asked for by the wrong clock")
          equal(yield* refreshes("right", 1), true, "whether the right one still holds")
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
          const { acquires, count, isRefused, refreshes } = subject.semaphore(1)
          yield* withClockOff(hour, sign, acquires("wrong", 1))
          yield* isRefused("right", 1)
          equal(yield* count, 1, "permits held")
          equal(yield* withClockOff(hour, sign, refreshes("wrong", 1, subject.short)), true, "whether it still holds")
          yield* subject.expire(subject.short)
          yield* acquires("right", 1)
        }
      })
  ),

  backingCase(
    "L2",
    "a holder that has crashed delays a waiter by its ttl at most",
    [],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key } = subject.semaphore(1)
        yield* acquires("crashed", 1, subject.short)
        yield* subject.drive(take(subject, "waiter", key, 1), within(subject, subject.short))
      })
  ),

  backingCase(
    "L2",
    "a waiter that has crashed delays those behind it by its ttl at most",
    ["queue"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = subject.semaphore(1)
        yield* acquires("holder", 1)
        yield* waits("crashed", 1, subject.short)
        yield* releases("holder", 1)
        yield* subject.drive(take(subject, "waiter", key, 1), within(subject, subject.short))
      })
  ),

  backingCase(
    "B10",
    "looking does not extend a lease",
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
    "looking changes nothing that can be seen",
    ["inspect"],
    ({ options, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, inspect, key } = semaphore(3)
        equal(yield* inspect, { holders: [], line: [] }, `what is known of ${key}, which nobody has used`)
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
    "inspect tells the time left of holds and places",
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
