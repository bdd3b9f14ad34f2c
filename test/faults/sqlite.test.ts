/** Processes that share a file of semaphores are killed, stopped, or interrupted. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import * as Fibers from "../utils/fibers.ts"
import { interruptTakes } from "../utils/interruptions.ts"
import { filename, rows, start } from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"

/** In milliseconds. Processes may take long to start. */
const timeout = 240_000

const mutex = (ttl: Duration.Input) => DistributedSemaphore.make("key", { ttl })

describe("a process that is killed", () => {
  it.live("outside of a transaction frees its permit after its ttl", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const holder = yield* start("hold", file, 1, 3000)
      expect(yield* holder.hears).toBe("holds")
      yield* Effect.gen(function*() {
        const semaphore = yield* mutex("3 seconds")
        holder.child.kill("SIGKILL")
        const [waited] = yield* Effect.timed(semaphore.withPermit(Effect.void))
        expect(Duration.toMillis(waited)).toBeLessThan(6000)
        // It was not free before: the last refresh is a third of the ttl old at most.
        expect(Duration.toMillis(waited)).toBeGreaterThan(300)
      }).pipe(Effect.provide(SqliteBacking.layer({ filename: file })))
      expect(rows(file)).toBe(0)
    }), timeout)

  it.live("inside of a transaction changes nothing, and delays nobody any more", () =>
    Effect.gen(function*() {
      const file = yield* filename
      yield* Effect.gen(function*() {
        const semaphore = yield* mutex("1 minute")
        yield* Effect.scoped(
          Effect.gen(function*() {
            yield* semaphore.take(1)
            const other = yield* start("transact", file)
            expect(yield* other.hears).toBe("inside")
            const release = yield* Effect.forkScoped(semaphore.tryTake(1))
            yield* Effect.sleep("100 millis")
            expect(release.pollUnsafe()).toBeUndefined()
            other.child.kill("SIGKILL")
            yield* Effect.timeout(Fiber.join(release), "2 seconds")
            expect(yield* semaphore.currentCount).toBe(1)
          })
        )
      }).pipe(Effect.provide(SqliteBacking.layer({ filename: file })))
      expect(rows(file)).toBe(0)
    }), timeout)
})

describe("a process that is stopped", () => {
  it.live("outside of a transaction loses its lease, and learns of it when it goes on", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const holder = yield* start("hold", file, 1, 1000)
      yield* holder.hears
      yield* Effect.gen(function*() {
        const semaphore = yield* mutex("1 second")
        holder.child.kill("SIGSTOP")
        yield* semaphore.withPermit(Effect.void)
        holder.child.kill("SIGCONT")
        expect(yield* holder.hears).toContain("LockLostError")
      }).pipe(Effect.provide(SqliteBacking.layer({ filename: file })))
    }), timeout)

  it.live(
    "inside of a transaction delays all others meanwhile; holders give up in time, nothing hangs, and looks go on",
    () =>
      Effect.gen(function*() {
        const file = yield* filename
        yield* Effect.gen(function*() {
          const semaphore = yield* mutex("1 second")
          const other = yield* start("transact", file)
          yield* Effect.gen(function*() {
            const held = yield* Effect.forkChild(Effect.flip(Effect.never.pipe(semaphore.withPermit)), {
              startImmediately: true
            })
            yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
            // From here on, nobody else can write.
            expect(yield* other.hears).toBe("inside")
            other.child.kill("SIGSTOP")
            const [noticed, error] = yield* Effect.timed(Fiber.join(held))
            expect(error).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
            expect(Duration.toMillis(noticed)).toBeLessThan(2000)
            yield* until(Effect.map(semaphore.inspect, ({ holders }) => holders.length === 0))
            const [gaveUp, failure] = yield* Effect.timed(Effect.flip(semaphore.withPermit(Effect.void)))
            expect(failure).toMatchObject({ _tag: "SemaphoreBackingError" })
            expect(Duration.toMillis(gaveUp)).toBeLessThan(3000)
            other.child.kill("SIGCONT")
            other.child.kill("SIGKILL")
            yield* semaphore.withPermit(Effect.void)
          })
        }).pipe(Effect.provide(SqliteBacking.layer({ filename: file })))
      }),
    timeout
  )
})

it.live(
  "a file that is busy for a second blocks neither the event loop nor the processor",
  () =>
    Effect.gen(function*() {
      const file = yield* filename
      yield* Effect.gen(function*() {
        const semaphore = yield* mutex("1 minute")
        yield* semaphore.withPermit(Effect.void)
        const other = yield* start("transact", file)
        yield* other.hears
        // The processor time of this process alone: the machine may be busy with other things.
        const before = process.cpuUsage()
        const attempt = yield* Effect.forkChild(semaphore.withPermit(Effect.void), { startImmediately: true })
        let turns = 0
        for (const end = performance.now() + 1000; performance.now() < end; turns++) yield* Effect.sleep("1 millis")
        const { system, user } = process.cpuUsage(before)
        expect(attempt.pollUnsafe()).toBeUndefined()
        expect(turns).toBeGreaterThan(50)
        expect((system + user) / 1000).toBeLessThan(800)
        other.child.kill("SIGKILL")
        yield* Fiber.join(attempt)
      }).pipe(Effect.provide(SqliteBacking.layer({ filename: file })))
    }),
  timeout
)

describe.each([true, false])("interrupting take after 0 to 3 ms, push %s", (push) => {
  it.live(
    "1000 times leaves no permit, no place and no fiber",
    () =>
      Fibers.counted((running) =>
        Effect.gen(function*() {
          const file = yield* filename
          const layer = SqliteBacking.layer({ filename: file, pushBasedAcquireEnabled: push })
          // Another connection uses the file at the same time.
          const other = yield* Effect.forkChild(
            Effect.flatMap(
              DistributedSemaphore.make("key", { limit: 2 }),
              (semaphore) => Effect.forever(semaphore.withPermits(2)(Effect.sleep("1 millis")))
            ).pipe(Effect.provide(layer))
          )
          yield* Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
            yield* interruptTakes(semaphore, 3)
            yield* Fiber.interrupt(other)
            expect(yield* semaphore.inspect).toMatchObject({ holders: [], line: [] })
            // The test itself, its keeper, and the subscription of the key, which outlives its waiters.
            expect(yield* Fibers.steady(running)).toBeLessThan(12)
          }).pipe(Effect.provide(layer))
          expect(rows(file)).toBe(0)
        })
      ),
    timeout
  )
})
