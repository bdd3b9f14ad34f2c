/** Eight processes share three permits through a file. `FAULTS_SECONDS=60` makes them do so for a minute. */
import { expect, it } from "@effect/vitest"
import { Effect, Fiber, Schedule } from "effect"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { filename, rows, start } from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"

const seconds = Number(process.env.FAULTS_SECONDS ?? 3)

interface Hold {
  readonly permits: number
  readonly token: string
  /** By the clock that the processes share. */
  readonly from: number
  readonly to: number
}

/** Returns the most permits that were held at once. */
const most = (holds: ReadonlyArray<Hold>): number => {
  const changes = holds.flatMap(({ from, permits, to }) => [[from, permits], [to, -permits]] as const)
  let [held, max] = [0, 0]
  // At one instant, holds end before others begin.
  for (const [, change] of changes.toSorted(([a, x], [b, y]) => a - b || x - y)) max = Math.max(max, held += change)
  return max
}

it.live(
  "eight processes, of which one is killed, keep the limit; holders are the front of the line, and nothing is left",
  () =>
    Effect.gen(function*() {
      const file = yield* filename
      yield* Effect.gen(function*() {
        const { inspect } = yield* DistributedSemaphore.make("key", { limit: 3, ttl: "2 seconds" })
        const workers = yield* Effect.forEach(
          Array.from({ length: 8 }),
          () => start("work", file, seconds * 1000),
          { concurrency: "unbounded" }
        )
        let [looks, waiting] = [0, 0]
        const overtaken: Array<unknown> = []
        const look = Effect.map(inspect, (state) => {
          looks++
          waiting = Math.max(waiting, state.line.length)
          const last = state.holders.at(-1)?.fencingToken ?? 0n
          if (state.line.some(({ fencingToken }) => fencingToken! < last)) overtaken.push(state)
        })
        const watching = yield* Effect.forkChild(Effect.repeat(look, Schedule.spaced("5 millis")))

        const [victim, ...others] = workers
        yield* until(Effect.sync(() => workers.every(({ messages }) => messages.length > 5)), "2 minutes")
        victim!.child.kill("SIGKILL")
        const ended = yield* Effect.promise(() => Promise.all(others.map(({ ended }) => ended)))
        yield* Fiber.interrupt(watching)

        expect(ended).toEqual(others.map(() => 0))
        const holds = workers.flatMap(({ messages }) => messages as ReadonlyArray<Hold>)
        expect(most(holds)).toBe(3)
        expect(new Set(holds.map(({ token }) => token)).size).toBe(holds.length)
        expect([looks > 10, waiting > 2, overtaken]).toEqual([true, true, []])
        // A hold of the killed process is over by now, or when its ttl is.
        yield* Effect.flatMap(
          DistributedSemaphore.make("key", { limit: 3, ttl: "2 seconds" }),
          ({ withPermits }) => withPermits(3)(Effect.void)
        )
      }).pipe(Effect.provide(SqliteBacking.layer({ filename: file })))
      expect(rows(file)).toBe(0)
    }),
  (seconds + 240) * 1000
)

it.live("a hand-off between processes takes a few milliseconds, and waits for no look", () =>
  Effect.gen(function*() {
    const file = yield* filename
    const processes = yield* Effect.forEach([1, 2], () => start("pass", file), { concurrency: "unbounded" })
    /** How many milliseconds after one process released, the other acquired, which had asked before. */
    const handOffs = () =>
      processes.flatMap(({ messages }, index) => messages.map((times) => ({ index, ...times }))).toSorted((a, b) =>
        a.acquired - b.acquired
      ).flatMap((next, index, all) => {
        const previous = all[index - 1]
        return previous && previous.index !== next.index && next.asked < previous.released
          ? [(next.acquired - previous.released) / 1000]
          : []
      })
    yield* until(Effect.sync(() => handOffs().length >= 100), "2 minutes")
    const took = handOffs().toSorted((a, b) => a - b)
    // It takes 2 ms on an idle machine. If it were not woken, the first in line would look after a second.
    expect(took[Math.floor(took.length / 2)]!).toBeLessThan(300)
  }), 240_000)
