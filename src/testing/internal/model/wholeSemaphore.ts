/** Tests the semaphore over the backing: random users acquire in every way, at the same time, and end in every way. */
import * as Arbitrary from "effect/Arbitrary"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { DistributedSemaphoreBacking } from "../../../core/Backing.ts"
import * as DistributedSemaphore from "../../../core/DistributedSemaphore.ts"
import { backingCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"
import type { Subject } from "../subject.ts"
import { check } from "./property.ts"
import { oneOf } from "./random.ts"

const limit = 3

const user = Arbitrary.all({
  process: oneOf(0, 1, 2),
  permits: oneOf(1, 1, 2, 3),
  asks: oneOf("withPermits", "withPermits", "withPermitsIfAvailable", "take", "tryTake"),
  /** Milliseconds. */
  starts: oneOf(0, 0, 1, 5),
  works: oneOf(0, 1, 3, 10),
  ends: oneOf("succeeds", "succeeds", "fails", "dies", "is interrupted", "times out"),
  /** Milliseconds from the start until it is interrupted, or times out. */
  until: oneOf(0, 1, 2, 5, 20)
})

type User = typeof user extends Arbitrary.Arbitrary<infer A> ? A : never

const play = Effect.fnUntraced(function*(subject: Subject, users: ReadonlyArray<User>) {
  const { acquires, inspect, key } = subject.semaphore(limit)
  let out = 0
  let most = 0

  const run = Effect.fnUntraced(function*({ asks, ends, permits, process, starts, until, works }: User) {
    const semaphore = yield* Effect.provideService(
      DistributedSemaphore.make(key, { limit, ttl: subject.long, acquireRetryInterval: "3 millis" }),
      DistributedSemaphoreBacking,
      subject.processes[process % subject.processes.length]!
    )
    const work = Effect.acquireUseRelease(
      Effect.sync(() => void (most = Math.max(most, out += permits))),
      () =>
        Effect.andThen(
          Effect.sleep(Duration.millis(works)),
          ends === "fails" ? Effect.fail("failure") : ends === "dies" ? Effect.die("defect") : Effect.void
        ),
      () => Effect.sync(() => void (out -= permits))
    )
    const use = asks === "withPermits" || asks === "withPermitsIfAvailable"
      ? semaphore[asks](permits)(work)
      : asks === "take"
      ? Effect.scoped(Effect.andThen(semaphore.take(permits), work))
      : Effect.scoped(Effect.flatMap(semaphore.tryTake(permits), (taken) => taken._tag === "Some" ? work : Effect.void))
    yield* Effect.sleep(Duration.millis(starts))
    switch (ends) {
      case "is interrupted": {
        const fiber = yield* Effect.forkScoped(use, { startImmediately: true })
        yield* Effect.sleep(Duration.millis(until))
        return yield* Fiber.interrupt(fiber)
      }
      case "times out":
        return yield* Effect.exit(Effect.timeout(use, Duration.millis(until)))
      case "succeeds":
        return yield* use
      default:
        return yield* Effect.exit(use)
    }
  })

  const all = Effect.forEach(users, (one) => Effect.scoped(run(one)), { concurrency: "unbounded", discard: true })
  yield* subject.drive(all, Duration.seconds(30))
  isTrue(most <= limit, `${most} permits were in use at once, of ${limit}`)
  equal(out, 0, "permits in use when everybody has ended")
  // An interrupted user waits only a moment for its release: on a slow store, that goes on in the background.
  const asks = Effect.exit(acquires("the next", limit))
  yield* subject.eventually("all permits are released", Effect.map(asks, Exit.isSuccess))
  if (!subject.options.has("inspect")) return
  const look = Effect.map(inspect, ({ holders, line }) => [...holders, ...line].map(({ identifier }) => identifier))
  yield* subject.eventually("nothing else is left", Effect.map(look, (left) => left.join() === "the next"))
})

export const cases = [
  backingCase(
    "L4",
    "through the semaphore: however work ends, no permit is lost, everything ends and nothing is left",
    [],
    (subject) =>
      check(
        subject,
        Arbitrary.array(user, { minLength: 1, maxLength: 10 }),
        (users) => Effect.scoped(play(subject, users)),
        { runs: Math.ceil(subject.options.sequences / 2), inRealTime: 32 }
      )
  )
]
