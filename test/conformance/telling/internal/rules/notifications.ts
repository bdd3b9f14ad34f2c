/** B7, C2 and L3: notifications, and what happens without them. */
import { Duration, Effect, Stream } from "effect"
import { DistributedSemaphoreBacking } from "../../../../../src/core/Backing.ts"
import * as DistributedSemaphore from "../../../../../src/core/DistributedSemaphore.ts"
import { backingCase } from "../../BackingCase.ts"
import { isTrue } from "../assert.ts"
import { now } from "../subject.ts"

export const cases = [
  backingCase("B7", "a release is heard", ["push"], ({ eventually, processes, semaphore }) =>
    Effect.gen(function*() {
      const { acquires, key, releases } = semaphore(1)
      let heard = false
      yield* Effect.forkScoped(
        Stream.runForEach(processes[0]!.onPermitsReleased!(key), () => Effect.sync(() => heard = true)),
        { startImmediately: true }
      )
      // A backing of the boolean kind does not say when its subscription stands.
      yield* eventually(
        "a release is heard",
        Effect.gen(function*() {
          yield* acquires("a", 1)
          yield* releases("a", 1)
          return heard
        })
      )
    })),

  backingCase(
    "B7",
    "emits when the subscription stands",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { key } = semaphore(1)
        yield* listen(key, "a", "b", "c")
      })
  ),

  backingCase(
    "B7",
    "who is not named hears of all who wait in its process",
    ["queue", "push"],
    ({ eventually, processOf, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(1)
        let heard = 0
        yield* acquires("a", 1)
        yield* Effect.forkScoped(
          Stream.runForEach(processOf("b").onPermitsReleased!(key), () => Effect.sync(() => heard++)),
          { startImmediately: true }
        )
        yield* eventually("the subscription stands", () => heard > 0)
        yield* waits("b", 1)
        heard = 0
        yield* releases("a", 1)
        yield* eventually("the waiter's process hears of the release", () => heard > 0)
      })
  ),

  backingCase(
    "B7",
    "who can go is told, also when somebody asks for less than before",
    ["queue", "push"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key, waits } = subject.semaphore(3)
        yield* acquires("h", 3)
        const shrunk = yield* subject.listen(key, "a")
        yield* waits("a", 1)
        yield* acquires("h", 2)
        yield* shrunk.toldAmongOthers("a")

        const other = subject.semaphore(3)
        yield* other.acquires("h", 1)
        const passed = yield* subject.listen(other.key, "b")
        yield* other.waits("c", 3)
        yield* other.waits("b", 1)
        yield* other.acquires("c", 1)
        yield* passed.toldAmongOthers("b")
      })
  ),

  backingCase(
    "B7",
    "goes on after the store was restarted",
    ["queue", "push", "restart"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = subject.semaphore(1)
        const before = yield* subject.listen(key, "b")
        yield* subject.options.restart
        yield* before.toldAmongOthers("b")
        // The store may have lost what it knew.
        yield* subject.eventually(
          "an operation succeeds again",
          Effect.map(Effect.exit(acquires("a", 1)), (exit) => exit._tag === "Success")
        )
        yield* waits("b", 1)
        yield* releases("a", 1)
        yield* before.toldAmongOthers("b")
      })
  ),

  backingCase("C2", "a release wakes those at the head of the line who fit together, and nobody else", [
    "queue",
    "push"
  ], ({ listen, semaphore }) =>
    Effect.gen(function*() {
      const { acquires, key, releases, waits } = semaphore(5)
      yield* acquires("h", 5)
      const { told } = yield* listen(key, "a", "b", "c", "d")
      yield* waits("a", 1)
      yield* waits("b", 2)
      yield* waits("c", 3)
      yield* waits("d", 1)
      yield* releases("h", 3)
      yield* told("a", "b")
    })),

  backingCase(
    "C2",
    "a release wakes nobody while the first in line can't go",
    ["queue", "push", "partialRelease"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(3)
        yield* acquires("h", 3)
        const { told } = yield* listen(key, "a", "b")
        yield* waits("a", 3)
        yield* waits("b", 1)
        yield* releases("h", 2)
        yield* told()
        yield* releases("h", 1)
        yield* told("a")
      })
  ),

  backingCase(
    "C2",
    "a waiter that leaves wakes those behind it who can go now",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(5)
        yield* acquires("h", 4)
        const { told } = yield* listen(key, "a", "b", "c")
        yield* waits("a", 2)
        yield* waits("b", 1)
        yield* waits("c", 1)
        yield* releases("a", 2)
        yield* told("b")
      })
  ),

  backingCase(
    "C2",
    "of a hundred who wait, a release wakes as many as can go, and these go in any order",
    ["queue", "push", "partialRelease"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, isRefused, key, releases, waits } = semaphore(100)
        const ids = Array.from({ length: 100 }, (_, index) => `waiter ${index}`)
        yield* acquires("h", 100)
        const { told } = yield* listen(key, ...ids)
        for (const id of ids) yield* waits(id, 1)
        yield* releases("h", 50)
        yield* told(...ids.slice(0, 50))
        yield* isRefused(ids[50]!, 1)
        for (const id of ids.slice(0, 50).toReversed()) yield* acquires(id, 1)
        yield* releases("h", 50)
        yield* told(...ids.slice(50))
      })
  ),

  backingCase(
    "C2",
    "what a waiter holds itself counts as free",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(2)
        yield* acquires("a", 1)
        yield* acquires("h", 1)
        const { told } = yield* listen(key, "a")
        yield* waits("a", 2)
        yield* releases("h", 1)
        yield* told("a")
      })
  ),

  backingCase(
    "C2",
    "a waiter with a larger limit is woken behind one that its own limit keeps back",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(10)
        yield* acquires("g", 2)
        yield* acquires("h", 6)
        const { told } = yield* listen(key, "a", "b")
        yield* semaphore(2, key).waits("a", 1)
        yield* waits("b", 4)
        yield* releases("h", 6)
        yield* told("b")
      })
  ),

  backingCase(
    "L1",
    "a release tells the first in line",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(1)
        yield* acquires("h", 1)
        const { toldAmongOthers } = yield* listen(key, "a", "b", "c")
        for (const id of ["c", "a", "b"]) yield* waits(id, 1)
        let holder = "h"
        for (const id of ["c", "a", "b"]) {
          yield* releases(holder, 1)
          yield* toldAmongOthers(id)
          yield* acquires(id, 1)
          holder = id
        }
      })
  ),

  backingCase(
    "L3",
    "a lost notification delays the first in line by 1 s at most",
    ["queue", "push"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, count, key, releases } = subject.semaphore(1)
        const process = subject.processOf("waiter")
        const deaf = DistributedSemaphoreBacking.of({
          ...process,
          onPermitsReleased: (key, id) =>
            Stream.concat(Stream.take(process.onPermitsReleased!(key, id), 1), Stream.never)
        })
        yield* acquires("holder", 1)
        let acquired = false
        yield* DistributedSemaphore.make(key, { ttl: subject.long, acquireRetryInterval: "1 hour" }).pipe(
          Effect.flatMap((semaphore) =>
            semaphore.withPermits(1, { identifier: "waiter" })(Effect.sync(() => acquired = true))
          ),
          Effect.provideService(DistributedSemaphoreBacking, deaf),
          (waiter) => Effect.forkScoped(waiter, { startImmediately: true })
        )
        yield* subject.pass(Duration.millis(50))
        const start = yield* now
        yield* releases("holder", 1)
        yield* subject.eventually("the waiter acquires", () => acquired)
        const passed = Duration.nanos((yield* now) - start)
        // Some time for a slow machine, where time is real: far less than a third of the ttl.
        const bound = subject.options.virtualTime ? Duration.millis(1020) : Duration.seconds(6)
        isTrue(Duration.isLessThan(passed, bound), `the waiter acquired ${Duration.format(passed)} after the release`)
        yield* subject.eventually("the waiter gives back", Effect.map(count, (held) => held === 0))
      })
  )
]
