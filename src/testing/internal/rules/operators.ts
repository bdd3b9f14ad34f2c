/** What operators need: B13, and a look at the whole. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Revocation } from "../../../core/Backing.ts"
import { mostListed } from "../../../core/Backing.ts"
import { backingCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"
import type { Subject } from "../subject.ts"

/** Makes all processes listen for revocations, and returns what each of them hears. */
const revocations = Effect.fnUntraced(function*(
  { eventually, processes }: Subject,
  key: string
): Effect.fn.Return<ReadonlyArray<ReadonlyArray<Revocation>>, unknown, Scope.Scope> {
  const heard = processes.map((): Array<Revocation> => [])
  for (const [index, process] of processes.entries()) {
    yield* Effect.forkScoped(
      Stream.runForEach(process.onRevoked!, (revocation) => Effect.sync(() => heard[index]!.push(revocation))),
      { startImmediately: true }
    )
  }
  const probe = processes[0]!.release(key, "probe", 1, { revoke: true })
  yield* eventually("every process listens", Effect.map(probe, () => heard.every((all) => all.length > 0)))
  return heard
})

const isHeard = (heard: ReadonlyArray<ReadonlyArray<Revocation>>, revoked: Revocation) =>
  heard.every((all) => all.some(({ holderId, key }) => key === revoked.key && holderId === revoked.holderId))

export const cases = [
  backingCase(
    "B13",
    "a revoked hold is gone, and every process hears of it",
    ["operators"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, count, isGone, key } = subject.semaphore(3)
        const heard = yield* revocations(subject, key)
        yield* acquires("a", 2)
        yield* acquires("b", 1)
        equal(
          yield* subject.processOf("operator").release(key, "a", Number.MAX_SAFE_INTEGER, { revoke: true }),
          2,
          "permits freed"
        )
        yield* isGone("a", 2)
        equal(yield* count, 1, "permits held")
        yield* subject.eventually("every process hears of it", () => isHeard(heard, { key, holderId: "a" }))
        isTrue(heard.flat().every(({ holderId }) => holderId !== "b"), "nobody hears of the other holder")
      })
  ),

  backingCase(
    "B13",
    "a revoked place is gone, every process hears of it, and those behind it move up",
    ["operators", "queue"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, isGone, key, stillWaits, waits } = subject.semaphore(1, "🔑 {of}:\"revocations\"")
        const heard = yield* revocations(subject, key)
        yield* acquires("a", 1)
        yield* waits("b, 'the' {first}", 1)
        yield* waits("c", 1)
        const revoked = { key, holderId: "b, 'the' {first}" }
        equal(
          yield* subject.processOf("operator").release(key, revoked.holderId, 1, { revoke: true }),
          0,
          "permits freed"
        )
        yield* isGone(revoked.holderId, 1)
        equal((yield* stillWaits("c", 1)).position, 0, "waiters ahead of the next")
        yield* subject.eventually("every process hears of it", () => isHeard(heard, revoked))
      })
  ),

  backingCase(
    "B13",
    "a release is not a revocation",
    ["operators"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key, releases } = subject.semaphore(1)
        const heard = yield* revocations(subject, key)
        yield* acquires("a", 1)
        yield* releases("a", 1)
        const last = { key, holderId: "last" }
        yield* subject.processes[0]!.release(key, last.holderId, 1, { revoke: true })
        yield* subject.eventually("every process hears what is revoked after it", () => isHeard(heard, last))
        isTrue(heard.flat().every(({ holderId }) => holderId !== "a"), "nobody hears of the release")
      })
  ),

  backingCase(
    "B2",
    "an answer names the limit of a holder if it is smaller than that of the request",
    ["operators"],
    ({ long, options, processOf, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key } = semaphore(2)
        yield* acquires("a", 1)
        const ask = (id: string, limit: number, permits: number) =>
          processOf(id).tryAcquire(key, id, long, limit, permits, { queue: options.has("queue") })
        const limitOf = (answer: Effect.Success<ReturnType<typeof ask>>) =>
          typeof answer === "object" ? answer.limit : undefined
        equal(limitOf(yield* ask("b", 5, 1)), 2, "the limit that counts for a holder")
        if (options.has("queue")) equal(limitOf(yield* ask("c", 7, 1)), 2, "the limit that counts for a waiter")
        equal(limitOf(yield* ask("a", 2, 1)), undefined, "the limit that counts for the holder that asked with it")
      })
  ),

  backingCase(
    "B10",
    "inspect lists a thousand holders and waiters, counts all, and names their owners",
    ["operators", "queue"],
    ({ drive, processes, long, semaphore }) =>
      Effect.gen(function*() {
        const { inspect, key } = semaphore(1)
        const most = mostListed + 2
        const ask = (index: number) =>
          processes[index % processes.length]!.tryAcquire(key, `${index}`, long, most, 1, { queue: true })
        yield* drive(
          Effect.forEach(Array.from({ length: 2 * most }, (_, index) => index), ask, {
            concurrency: 100,
            discard: true
          }),
          Duration.minutes(1)
        )
        const { holderCount, holders, line, waiterCount } = yield* inspect
        equal([holders.length, line.length], [mostListed, mostListed], "how many are listed")
        equal([holderCount, waiterCount], [most, most], "how many there are")
        isTrue(
          [...holders, ...line].every(({ owner }) => typeof owner === "string" && owner.length > 0),
          "everybody has an owner"
        )
        const tokens = [...holders, ...line].map(({ fencingToken }) => fencingToken)
        equal(tokens, tokens.toSorted((a, b) => a < b ? -1 : 1), "the tokens, in the order of the line")
      })
  ),

  backingCase(
    "B10",
    "keys lists the keys that are used, each once",
    ["operators"],
    ({ eventually, freshKey, processes, semaphore }) =>
      Effect.gen(function*() {
        const used = Array.from({ length: 30 }, (_, index) => `${freshKey()} 🔑:{${index}}`)
        yield* Effect.forEach(used, (key) => semaphore(1, key).acquires("a", 1), { discard: true })
        if (processes.length > 1) yield* semaphore(1, used[0]!).isRefused("b", 1)
        const released = used.pop()!
        yield* semaphore(1, released).releases("a", 1)
        const listed = yield* Stream.runCollect(processes.at(-1)!.keys!)
        equal(listed.filter((key) => used.includes(key)).toSorted(), used.toSorted(), "the keys that are listed")
        yield* eventually(
          "a released key is not listed",
          Effect.map(Stream.runCollect(processes[0]!.keys!), (all) => !all.includes(released))
        )
      })
  ),

  backingCase(
    "B10",
    "onChanged emits when a waiter is granted",
    ["operators", "queue"],
    ({ eventually, processes, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = semaphore(1)
        let changes = 0
        const watch = Stream.runForEach(processes.at(-1)!.onChanged!(key), () => Effect.sync(() => changes++))
        yield* Effect.forkScoped(watch, { startImmediately: true })
        yield* eventually(
          "a change is heard",
          Effect.gen(function*() {
            yield* acquires("a", 1)
            yield* waits("b", 1)
            yield* releases("a", 1)
            yield* releases("b", 1)
            return changes > 0
          })
        )
      })
  )
]
