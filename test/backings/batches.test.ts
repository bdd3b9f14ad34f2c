/** Smart batching, tested without a store. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber } from "effect"
import * as Batches from "../../src/backings/internal/batches.ts"
import { until } from "../utils/until.ts"

/** Makes batches whose requests end when the test says so. */
const controlled = (
  options: {
    readonly mayBeOfOne?: boolean
    readonly mostUnderWay?: number
    readonly subjectOf?: (operation: number) => string
    readonly onInterrupt?: Effect.Effect<void>
  } = {}
) => {
  const sent: Array<{ readonly operations: ReadonlyArray<number>; readonly end: Deferred.Deferred<void, string> }> = []
  let interrupted = 0
  const batches = Batches.make<number, string, string>({
    run: (operations) =>
      Effect.suspend(() => {
        const end = Deferred.makeUnsafe<void, string>()
        sent.push({ operations, end })
        return Effect.as(Deferred.await(end), operations.map(String))
      }).pipe(
        Effect.onInterrupt(() =>
          Effect.andThen(Effect.sync(() => void interrupted++), options.onInterrupt ?? Effect.void)
        )
      ),
    mayBeOfOne: () => options.mayBeOfOne ?? false,
    mostPerBatch: 3,
    mostUnderWay: options.mostUnderWay ?? 1,
    ...(options.subjectOf && { subjectOf: options.subjectOf }),
    context: Context.empty()
  })
  const submit = (...operations: ReadonlyArray<number>) =>
    Effect.forkChild(batches.submit(operations), { startImmediately: true })
  const sentAre = (...expected: ReadonlyArray<ReadonlyArray<number>>) =>
    Effect.andThen(
      until(Effect.sync(() => sent.length >= expected.length)),
      Effect.sync(() => expect(sent.map(({ operations }) => operations)).toEqual(expected))
    )
  const succeed = (index: number) => Deferred.succeed(sent[index]!.end, undefined)
  return { batches, submit, sent, sentAre, succeed, interrupted: () => interrupted }
}

describe("batches", () => {
  it.live("an observer that throws when its operation is answered keeps no other from its answer", () =>
    Effect.gen(function*() {
      const { batches, sentAre, submit, succeed } = controlled()
      Effect.runCallback(batches.submit([1]), {
        onExit: () => {
          throw new Error("a bug of the application")
        }
      })
      const other = yield* submit(2)
      yield* sentAre([1, 2])
      yield* succeed(0)
      expect(yield* Fiber.join(other)).toEqual(["2"])
    }))

  it.live("operations that come together are sent at once, later ones in the next batches, and each gets its own answers", () =>
    Effect.gen(function*() {
      const { sentAre, submit, succeed } = controlled()
      const first = [yield* submit(1), yield* submit(2)]
      yield* sentAre([1, 2])
      const second = [yield* submit(3), yield* submit(4, 5, 6), yield* submit(7)]
      yield* succeed(0)
      expect(yield* Effect.forEach(first, Fiber.join)).toEqual([["1"], ["2"]])
      yield* sentAre([1, 2], [3, 4, 5])
      yield* succeed(1)
      yield* sentAre([1, 2], [3, 4, 5], [6, 7])
      yield* succeed(2)
      expect(yield* Effect.forEach(second, Fiber.join)).toEqual([["3"], ["4", "5", "6"], ["7"]])
    }))

  it.live("an operation that is given up before it is sent is never sent", () =>
    Effect.gen(function*() {
      const { sentAre, submit, succeed } = controlled()
      yield* submit(1)
      yield* sentAre([1])
      const given = yield* submit(2)
      const kept = yield* submit(3)
      yield* Fiber.interrupt(given)
      yield* succeed(0)
      yield* sentAre([1], [3])
      yield* succeed(1)
      expect(yield* Fiber.join(kept)).toEqual(["3"])
    }))

  it.live("a request is interrupted once no caller waits for it, and the interruption of a caller ends with its request", () =>
    Effect.gen(function*() {
      const { interrupted, sentAre, submit, succeed } = controlled()
      const fibers = [yield* submit(1), yield* submit(2)]
      yield* sentAre([1, 2])
      const interruption = yield* Effect.forkChild(Fiber.interrupt(fibers[0]!), { startImmediately: true })
      yield* Effect.sleep("20 millis")
      expect([interruption.pollUnsafe(), interrupted()]).toEqual([undefined, 0])
      yield* Fiber.interrupt(fibers[1]!)
      yield* Fiber.join(interruption)
      expect(interrupted()).toBe(1)
      const next = yield* submit(3)
      yield* sentAre([1, 2], [3])
      yield* succeed(1)
      expect(yield* Fiber.join(next)).toEqual(["3"])
    }))

  it.live("a request that is not answered does not hold up the next one for ever", () =>
    Effect.gen(function*() {
      const { sentAre, submit, succeed } = controlled()
      yield* submit(1)
      yield* sentAre([1])
      const next = yield* submit(2)
      yield* sentAre([1], [2])
      yield* succeed(1)
      expect(yield* Fiber.join(next)).toEqual(["2"])
    }))

  it.live("with subjects, one request about each is under way, however long it takes, and their total number is bounded", () =>
    Effect.gen(function*() {
      const subjectOf = (operation: number) => String(operation % 10)
      const { sent, sentAre, submit, succeed } = controlled({ mostUnderWay: 2, subjectOf })
      yield* submit(1)
      yield* submit(11)
      yield* submit(2, 3)
      yield* sentAre([1, 11], [2])
      const next = yield* submit(21)
      yield* submit(31)
      // A batch without a subject would not hold up others for so long.
      yield* Effect.sleep("400 millis")
      expect(sent).toHaveLength(2)
      yield* succeed(1)
      yield* sentAre([1, 11], [2], [3])
      yield* succeed(2)
      yield* Effect.sleep("50 millis")
      expect(sent).toHaveLength(3)
      yield* succeed(0)
      yield* sentAre([1, 11], [2], [3], [21, 31])
      yield* succeed(3)
      expect(yield* Fiber.join(next)).toEqual(["21"])
    }))

  it.live("a request that nobody waits for any more holds up no other, even if its interruption takes long", () =>
    Effect.gen(function*() {
      const isInterrupted = yield* Deferred.make<void>()
      const { sentAre, submit } = controlled({ subjectOf: String, onInterrupt: Deferred.await(isInterrupted) })
      const first = yield* submit(1)
      yield* sentAre([1])
      yield* submit(1)
      const interruption = yield* Effect.forkChild(Fiber.interrupt(first), { startImmediately: true })
      yield* sentAre([1], [1])
      expect(interruption.pollUnsafe()).toBeUndefined()
      yield* Deferred.succeed(isInterrupted, undefined)
      yield* Fiber.join(interruption)
    }))

  it.live("an operation that nobody waits for any more is not repeated after its batch has failed", () =>
    Effect.gen(function*() {
      const { sent, sentAre, submit, succeed } = controlled({ mayBeOfOne: true })
      const first = yield* submit(1)
      const second = yield* submit(2)
      const third = yield* submit(3)
      yield* sentAre([1, 2, 3])
      const gone = yield* Effect.forkChild(Fiber.interrupt(third), { startImmediately: true })
      Deferred.doneUnsafe(sent[0]!.end, Exit.fail("refused"))
      yield* sentAre([1, 2, 3], [1])
      yield* succeed(1)
      yield* sentAre([1, 2, 3], [1], [2])
      // Its answer does not wait for the rest of the batch.
      expect(yield* Fiber.join(first)).toEqual(["1"])
      yield* Fiber.interrupt(second)
      yield* Fiber.join(gone)
      expect(sent).toHaveLength(3)
    }))

  it.live("a failure that one operation may have caused fails that one alone; any other fails the whole batch", () =>
    Effect.gen(function*() {
      for (const mayBeOfOne of [true, false]) {
        const { sent, submit } = controlled({ mayBeOfOne })
        const fibers = [yield* submit(1), yield* submit(2), yield* submit(3)]
        let ended = 0
        yield* until(Effect.sync(() => {
          for (; ended < sent.length; ended++) {
            const { end, operations } = sent[ended]!
            Deferred.doneUnsafe(end, operations.includes(2) ? Exit.fail("refused") : Exit.void)
          }
          return fibers.every((fiber) => fiber.pollUnsafe() !== undefined)
        }))
        const exits = yield* Effect.forEach(fibers, Fiber.await)
        expect(exits.map(Exit.isSuccess)).toEqual(mayBeOfOne ? [true, false, true] : [false, false, false])
      }
    }))
})
