/** B7, C2 and L3: notifications, and what happens without them. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { DistributedSemaphoreBacking } from "../../../core/Backing.ts"
import * as DistributedSemaphore from "../../../core/DistributedSemaphore.ts"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { isTrue } from "../assert.ts"
import type { Grant } from "../subject.ts"
import { now } from "../subject.ts"

export const cases = [
  backingCase(
    "B7",
    "a subscription of a boolean backing emits when permits are released",
    ["push"],
    ({ eventually, processes, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases } = semaphore(1)
        let heard = false
        yield* Effect.forkScoped(
          Stream.runForEach(processes[0]!.onPermitsReleased!(key), () => Effect.sync(() => heard = true)),
          { startImmediately: true }
        )
        // A boolean backing does not say when its subscription is established.
        yield* eventually(
          "something is heard",
          Effect.gen(function*() {
            yield* acquires("a", 1)
            yield* releases("a", 1)
            return heard
          })
        )
      })
  ),

  backingCase(
    "B7",
    "a subscription emits when it is established",
    ["queue", "push"],
    ({ listen, semaphore }) => Effect.asVoid(listen(semaphore(1).key, "a", "b", "c"))
  ),

  backingCase(
    "B7",
    "one subscription hears the grants of all waiters of its process, also of those that came before it",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(6)
        yield* acquires("h", 6)
        const early = yield* waits("a", 1)
        const ids = ["b", "c", "d", "e", "f"]
        const { hears } = yield* listen(key, "a", ...ids)
        const late = yield* Effect.forEach(ids, (id) => Effect.map(waits(id, 1), ({ token }): Grant => [id, token]))
        yield* releases("h", 6)
        yield* hears(["a", early.token], ...late)
      })
  ),

  backingCase(
    "B7",
    "a grant for an earlier place of the same identifier never reaches the later one",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, key, releases, stillWaits, waits } = semaphore(3)
        yield* acquires("g", 1)
        yield* acquires("h", 2)
        const { hears } = yield* listen(key, "b")
        const earlier = yield* waits("b", 1)
        const later = yield* waits("b", 3)
        // Enough for the earlier place.
        yield* releases("g", 1)
        yield* hears()
        yield* stillWaits("b", 3)
        yield* releases("b", 3, earlier.token)
        yield* releases("h", 2)
        yield* hears(["b", later.token])
        yield* holds("b", 3)
      })
  ),

  leaseCase(
    "B7",
    "what an operation grants because a hold has expired is heard",
    ["queue", "push"],
    ({ expire, inTime, listen, semaphore }) =>
      Effect.gen(function*() {
        const { b, hearsAmongOthers, releases, ttl } = yield* inTime((ttl) =>
          Effect.gen(function*() {
            const { acquires, key, releases, waits } = semaphore(1)
            const { hearsAmongOthers } = yield* listen(key, "b")
            yield* acquires("a", 1, ttl)
            const b = yield* waits("b", 1)
            return { b, hearsAmongOthers, releases, ttl }
          })
        )
        yield* expire(ttl)
        yield* releases("nobody", 1)
        yield* hearsAmongOthers(["b", b.token])
      })
  ),

  backingCase(
    "B7",
    "a subscription goes on after a restart of the store",
    ["queue", "push", "restart"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = subject.semaphore(1)
        const { hearsAmongOthers, standsAgain } = yield* subject.listen(key, "b")
        yield* subject.options.restart
        yield* standsAgain
        // The store may have lost what it knew.
        yield* subject.eventually(
          "an operation succeeds again",
          Effect.map(Effect.exit(acquires("a", 1)), (exit) => exit._tag === "Success")
        )
        const { token } = yield* waits("b", 1)
        yield* releases("a", 1)
        yield* hearsAmongOthers(["b", token])
      })
  ),

  backingCase(
    "C2",
    "a release notifies the waiters at the front that fit together, and no others",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(5)
        yield* acquires("g", 2)
        yield* acquires("h", 3)
        const { hears } = yield* listen(key, "a", "b", "c", "d")
        const a = yield* waits("a", 1)
        const b = yield* waits("b", 2)
        yield* waits("c", 3)
        yield* waits("d", 1)
        yield* releases("h", 3)
        yield* hears(["a", a.token], ["b", b.token])
      })
  ),

  backingCase(
    "C2",
    "a release notifies nobody while the first in line does not fit",
    ["queue", "push", "partialRelease"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(3)
        yield* acquires("h", 3)
        const { hears } = yield* listen(key, "a", "b")
        const a = yield* waits("a", 3)
        yield* waits("b", 1)
        yield* releases("h", 2)
        yield* hears()
        yield* releases("h", 1)
        yield* hears(["a", a.token])
      })
  ),

  backingCase(
    "C2",
    "when a waiter leaves, those behind it that fit now are notified",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(5)
        yield* acquires("h", 4)
        const { hears } = yield* listen(key, "a", "b", "c")
        yield* waits("a", 2)
        const b = yield* waits("b", 1)
        yield* waits("c", 1)
        yield* releases("a", 2)
        yield* hears(["b", b.token])
      })
  ),

  backingCase(
    "C2",
    "a release notifies as many of a hundred waiters as fit",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, key, releases, waits } = semaphore(100)
        const ids = Array.from({ length: 100 }, (_, index) => `waiter ${index}`)
        yield* acquires("g", 50)
        yield* acquires("h", 50)
        const { hears } = yield* listen(key, ...ids)
        const grants = yield* Effect.forEach(ids, (id) => Effect.map(waits(id, 1), ({ token }): Grant => [id, token]))
        yield* releases("g", 50)
        yield* hears(...grants.slice(0, 50))
        isTrue((yield* count) === 100, "all permits are held again")
        yield* releases("h", 50)
        yield* hears(...grants.slice(50))
      })
  ),

  backingCase(
    "L1",
    "releases notify waiters in the order of the line",
    ["queue", "push"],
    ({ listen, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(1)
        yield* acquires("h", 1)
        const ids = ["c", "a", "b"]
        const { hears } = yield* listen(key, ...ids)
        const grants = yield* Effect.forEach(ids, (id) => Effect.map(waits(id, 1), ({ token }): Grant => [id, token]))
        let holder = "h"
        for (const grant of grants) {
          yield* releases(holder, 1)
          yield* hears(grant)
          holder = grant[0]
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
          onPermitsReleased: (key) => Stream.concat(Stream.take(process.onPermitsReleased!(key), 1), Stream.never)
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
        // In real time, a slow machine gets some seconds more: far less than a third of the ttl.
        const bound = subject.options.virtualTime ? Duration.millis(1020) : Duration.seconds(6)
        isTrue(Duration.isLessThan(passed, bound), `the waiter acquired ${Duration.format(passed)} after the release`)
        yield* subject.eventually("the waiter releases", Effect.map(count, (held) => held === 0))
      })
  )
]
