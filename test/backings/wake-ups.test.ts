/** Who is told that it may go: exactly those of whom the contract says so (B2, B4, C2). */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Stream } from "effect"
import { inject } from "vitest"
import { DistributedSemaphoreBacking, MemoryBacking, RedisBacking } from "../../src/index.ts"
import { connect } from "../utils/redis.ts"
import { until } from "../utils/until.ts"

const ttl = Duration.minutes(1)
let keys = 0

const redis = Layer.unwrap(Effect.map(connect(inject("redisUrl")), (redis) => RedisBacking.layer(redis)))

describe.each([["MemoryBacking", MemoryBacking.layer], ["RedisBacking", redis]])("%s", (_, layer) => {
  /** Runs steps on a key of its own, with a record of who was told since its subscription stood. */
  const test = (
    name: string,
    body: (steps: {
      readonly holds: (id: string, permits: number, limit: number) => Effect.Effect<unknown, unknown>
      readonly waits: (id: string, permits: number, limit: number) => Effect.Effect<unknown, unknown>
      readonly releases: (id: string, permits: number) => Effect.Effect<unknown, unknown>
      readonly told: (...ids: ReadonlyArray<string>) => Effect.Effect<void, unknown>
    }) => Effect.Effect<void, unknown>
  ) =>
    it.live(name, () =>
      Effect.gen(function*() {
        const backing = yield* DistributedSemaphoreBacking
        const key = `wake-ups-${process.pid}-${keys++}`
        const heard: Array<string> = []
        const ids = ["a", "b", "c", "d"]
        for (const id of ids) {
          yield* Effect.forkScoped(
            Stream.runForEach(backing.onPermitsReleased!(key, id), () => Effect.sync(() => heard.push(id)))
          )
        }
        yield* until(Effect.sync(() => heard.length === ids.length))
        heard.length = 0
        const ask = (queue: boolean) => (id: string, permits: number, limit: number) =>
          Effect.map(
            backing.tryAcquire(key, id, ttl, limit, permits, { queue }),
            (answer) => expect(answer).toMatchObject({ _tag: queue ? "Waiting" : "Acquired" })
          )
        yield* body({
          holds: ask(false),
          waits: ask(true),
          releases: (id, permits) => backing.release(key, id, permits),
          told: (...expected) =>
            Effect.gen(function*() {
              yield* until(Effect.sync(() => heard.length >= expected.length))
              // Messages arrive in order: when this one has come, no other is on its way.
              yield* backing.tryAcquire(`${key} end`, "x", ttl, 1, 1)
              yield* Effect.sleep("20 millis")
              expect(heard.splice(0).toSorted()).toEqual(expected)
            })
        })
      }).pipe(Effect.provide(layer)))

  test("those at the head of the line who fit together, and nobody else", ({ holds, releases, told, waits }) =>
    Effect.gen(function*() {
      yield* holds("h", 5, 5)
      yield* waits("a", 1, 5)
      yield* waits("b", 2, 5)
      yield* waits("c", 3, 5)
      yield* waits("d", 1, 5)
      yield* releases("h", 3)
      yield* told("a", "b")
    }))

  test("those behind a waiter that leaves the line", ({ holds, releases, told, waits }) =>
    Effect.gen(function*() {
      yield* holds("h", 4, 5)
      yield* waits("a", 2, 5)
      yield* waits("b", 1, 5)
      yield* releases("a", 2)
      yield* told("b")
    }))

  test("a holder that waits for another number: what it holds counts as free", ({ holds, releases, told, waits }) =>
    Effect.gen(function*() {
      yield* holds("a", 1, 2)
      yield* holds("h", 1, 2)
      yield* waits("a", 2, 2)
      yield* releases("h", 1)
      yield* told("a")
    }))

  test("a waiter with a larger limit, behind one that its own smaller limit keeps back", ({ holds, releases, told, waits }) =>
    Effect.gen(function*() {
      yield* holds("h", 8, 10)
      yield* waits("a", 1, 2)
      yield* waits("b", 4, 10)
      yield* releases("h", 6)
      yield* told("b")
    }))
})
