/** What operators see of semaphores in a file, and what they can do. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Context, DateTime, Duration, Effect, Exit, Layer, Stream } from "effect"
import { hostname } from "node:os"
import { DatabaseSync } from "node:sqlite"
import { make } from "../../src/backings/sqlite/backing.ts"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import type { Machine } from "../../src/backings/sqlite/machine.ts"
import { thisMachine } from "../../src/backings/sqlite/machine.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { filename } from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"

const ttl = Duration.minutes(1)

const build = (filename: string, options: Omit<SqliteBacking.SqliteBackingOptions, "filename"> = {}) =>
  Effect.map(Layer.build(SqliteBacking.layer({ filename, ...options })), Context.get(DistributedSemaphoreBacking))

const on = (machine: Partial<Machine>, filename: string) => make({ filename }, { ...thisMachine(), ...machine })

describe("the owner", () => {
  it.live("is the host name and the process id by default, and what the option says otherwise", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const owner = "invoices: {worker} 7\ud800\0"
      const [here, there] = [yield* build(file), yield* build(file, { owner, pushBasedAcquireEnabled: false })]
      yield* here.tryAcquire("key", "a", ttl, 1, 1)
      yield* there.tryAcquire("key", "b", ttl, 1, 1, { queue: true })
      const { holders, line } = yield* here.inspect!("key")
      expect([...holders, ...line].map(({ owner }) => owner)).toEqual([`${hostname()}:${process.pid}`, owner])
    }))

  it.live("is the process that took a hold or a place over, by asking again or by refreshing", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const [one, other] = [yield* build(file, { owner: "one" }), yield* build(file, { owner: "other" })]
      const owners = Effect.map(
        one.inspect!("key"),
        ({ holders, line }) => [...holders, ...line].map(({ owner }) => owner)
      )
      for (const id of ["a", "b"]) yield* one.tryAcquire("key", id, ttl, 1, 1, { queue: true })
      for (const id of ["a", "b"]) yield* other.tryAcquire("key", id, ttl, 1, 1, { queue: true })
      expect(yield* owners).toEqual(["other", "other"])
      for (const id of ["a", "b"]) yield* one.refresh("key", id, ttl, 1, 1)
      expect(yield* owners).toEqual(["one", "one"])
    }))

  it.live("must not be empty", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(build(yield* filename, { owner: "" }))
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBeInstanceOf(Cause.IllegalArgumentError)
    }))
})

it.live("inspect says when a contender first asked, by the wall clock of that moment", () =>
  Effect.gen(function*() {
    let wall = 1_800_000_000_000_000
    const backing = yield* on({ wall: () => wall }, yield* filename)
    yield* backing.tryAcquire("key", "a", ttl, 2, 1)
    wall += 3_600_000_000
    yield* backing.tryAcquire("key", "b", ttl, 2, 1)
    yield* backing.refresh("key", "a", ttl, 2, 1)
    const { holders } = yield* backing.inspect!("key")
    expect(holders.map(({ since }) => DateTime.toEpochMillis(since!))).toEqual([1_800_000_000_000, 1_800_003_600_000])
  }))

describe("a hold that is revoked", () => {
  it.live("leaves nothing in the file after some seconds", () =>
    Effect.gen(function*() {
      const file = yield* filename
      let monotonic = 0
      const backing = yield* on({ monotonic: () => monotonic += 100 }, file)
      yield* backing.tryAcquire("key", "a", ttl, 1, 1)
      yield* backing.release("key", "a", 1, { revoke: true })
      monotonic += 11_000_000
      yield* until(Effect.sync(() => revocations(file) === 0))
    }))
})

const revocations = (file: string): unknown => {
  const database = new DatabaseSync(file)
  try {
    return database.prepare("select count(*) as count from revocations").get()!.count
  } finally {
    database.close()
  }
}

describe("keys", () => {
  it.live("lists thousands of keys, each once, and none whose contenders have expired or are gone", () =>
    Effect.gen(function*() {
      const backing = yield* build(yield* filename)
      const keys = Array.from({ length: 2500 }, (_, index) => `${index} {€}'"\ud800`)
      yield* Effect.forEach([...keys, "released"], (key) => backing.tryAcquire(key, "a", ttl, 1, 1), {
        concurrency: "unbounded",
        discard: true
      })
      yield* backing.tryAcquire("expired", "a", Duration.millis(20), 1, 1)
      yield* backing.release("released", "a", 1)
      yield* Effect.sleep("40 millis")
      const listed = yield* Stream.runCollect(backing.keys!)
      expect(listed.toSorted()).toEqual(keys.toSorted())
    }))
})

describe("onChanged", () => {
  it.live("emits whenever another process writes to the file", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const [watching, working] = [yield* build(file), yield* build(file, { pushBasedAcquireEnabled: false })]
      let heard = 0
      yield* Effect.forkScoped(
        Stream.runForEach(watching.onChanged!("key"), () => Effect.sync(() => heard++)),
        { startImmediately: true }
      )
      yield* until(Effect.sync(() => heard > 0))
      for (
        const operation of [working.tryAcquire("key", "a", ttl, 1, 1), working.release("key", "a", 1)]
      ) {
        // Earlier writes may still be heard.
        yield* Effect.sleep("50 millis")
        const before = heard
        yield* operation
        yield* until(Effect.sync(() => heard > before), "1 second")
      }
    }))
})
