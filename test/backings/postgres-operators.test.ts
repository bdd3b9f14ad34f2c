/** What operators see of semaphores in PostgreSQL, and what they can revoke. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Stream } from "effect"
import { inject } from "vitest"
import type { Revocation } from "../../src/core/Backing.ts"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { buildOn, connect, connections, freshName, server } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

describe("inspect", () => {
  it.live("shows since when each contender is there, and its owner, which changes when another process takes over", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const one = yield* buildOn(url)({ schema, owner: "büro \"1\"\0" })
      const two = yield* buildOn(url)({ schema, owner: "two" })
      const unnamed = yield* buildOn(url)({ schema })
      const before = yield* Clock.currentTimeMillis
      yield* one.backing.tryAcquire("key", "a", minute, 2, 1)
      yield* unnamed.backing.tryAcquire("key", "b", minute, 2, 1)
      yield* one.backing.tryAcquire("key", "c", minute, 2, 1, { queue: true })
      yield* one.backing.tryAcquire("key", "d", minute, 2, 1, { queue: true })
      const look = Effect.map(two.backing.inspect!("key"), ({ holders, line }) => [...holders, ...line])
      const first = yield* look
      const after = yield* Clock.currentTimeMillis
      const owners = (contenders: typeof first) => contenders.map(({ owner }) => owner)
      expect(owners(first)).toEqual([
        "büro \"1\"\0",
        expect.stringMatching(`.:${process.pid}$`),
        "büro \"1\"\0",
        "büro \"1\"\0"
      ])
      for (const { since } of first) {
        expect(DateTime.toEpochMillis(since!)).toBeGreaterThanOrEqual(before - 1)
        expect(DateTime.toEpochMillis(since!)).toBeLessThanOrEqual(after)
      }
      // The other process takes over by refreshing, or by asking again.
      yield* two.backing.refresh("key", "a", minute, 2, 1)
      yield* two.backing.tryAcquire("key", "b", minute, 2, 1)
      yield* two.backing.refresh("key", "c", minute, 2, 1)
      yield* two.backing.tryAcquire("key", "d", minute, 2, 1, { queue: true })
      const second = yield* look
      expect(owners(second)).toEqual(["two", "two", "two", "two"])
      expect(second.map(({ since }) => since)).toEqual(first.map(({ since }) => since))
    }))

  it.live("counts only contenders that have not expired, also after a refresh of some", () =>
    Effect.gen(function*() {
      const { backing } = yield* buildOn(url)({ schema: freshName() })
      const short = Duration.millis(500)
      for (const id of ["a", "b", "c", "d"]) yield* backing.tryAcquire("key", id, short, 2, 1, { queue: true })
      yield* backing.refresh("key", "b", minute, 2, 1)
      yield* backing.refresh("key", "d", minute, 2, 1)
      yield* Effect.sleep("600 millis")
      const { holderCount, holders, line, waiterCount } = yield* backing.inspect!("key")
      expect([holders, line].map((all) => all.map(({ identifier }) => identifier))).toEqual([["b"], ["d"]])
      expect([holderCount, waiterCount]).toEqual([1, 1])
    }))

  it.live("an empty owner is misuse", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(buildOn(url)({ schema: freshName(), owner: "" }))
      expect(String(exit)).toContain("owner is \"\", but must be a non-empty string")
    }))
})

describe("keys", () => {
  it.live("are listed over pages, each once, without those whose contenders have expired", () =>
    Effect.gen(function*() {
      const { backing } = yield* buildOn(url)({ schema: freshName() })
      const keys = Array.from({ length: 2100 }, (_, index) => `${index}, ${"ключ".repeat(index % 20)}`)
      const ask = (ttl: Duration.Duration) => (key: string) => backing.tryAcquire(key, "a", ttl, 1, 1)
      const some = ["expired", "refreshed"]
      yield* Effect.forEach(some, ask(Duration.seconds(1)))
      yield* backing.refresh("refreshed", "a", minute, 1, 1)
      yield* Effect.forEach(keys, ask(minute), { concurrency: "unbounded" })
      yield* backing.release(keys[0]!, "a", 1)
      yield* Effect.sleep("1 second")
      const listed = yield* Stream.runCollect(backing.keys!)
      expect(listed.toSorted()).toEqual([...keys.slice(1), "refreshed"].toSorted())
    }))
})

/** Collects the revocations that a process hears of. Returns when the process listens. */
const hear = Effect.fnUntraced(function*(backing: DistributedSemaphoreBacking) {
  const heard: Array<Revocation> = []
  yield* Effect.forkScoped(
    Stream.runForEach(backing.onRevoked!, (revocation) => Effect.sync(() => heard.push(revocation)))
  )
  yield* until(Effect.map(backing.release("probe", "probe", 1, { revoke: true }), () => heard.length > 0))
  return heard
})

describe("a revocation", () => {
  it.live("is heard whatever the names are: long ones, and ones that begin alike in one statement", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const listening = yield* buildOn(url)({ schema })
      // A process that does not listen can revoke, too.
      const { backing } = yield* buildOn(url)({ schema, pushBasedAcquireEnabled: false })
      expect(backing.onRevoked).toBeUndefined()
      expect(backing.onChanged).toBeUndefined()
      const heard = yield* hear(listening.backing)
      const long = "[\"ключ\\:,é\"]".repeat(1000)
      const revoked = [
        { key: long, holderId: `${long} 1` },
        { key: long, holderId: `${long} 2` },
        { key: "'key', \n:0:", holderId: "revoked:1:0:" }
      ]
      yield* Effect.forEach(revoked, ({ holderId, key }) => backing.release(key, holderId, 1, { revoke: true }), {
        concurrency: "unbounded"
      })
      yield* until(Effect.sync(() => heard.filter(({ key }) => key !== "probe").length >= revoked.length))
      expect(heard.filter(({ key }) => key !== "probe")).toEqual(expect.arrayContaining(revoked))
    }))

  it.live("is heard, as are grants and changes, over one connection", () =>
    Effect.gen(function*() {
      const postgres = yield* server
      const observer = yield* connect(postgres.url, { maxConnections: 1 })
      const { backing, sql } = yield* buildOn(postgres.url)({}, { maxConnections: 2 })
      yield* hear(backing)
      let changes = 0
      for (const key of ["one", "two", "three"]) {
        yield* Effect.forkScoped(Stream.runForEach(backing.onChanged!(key), () => Effect.sync(() => void changes++)))
        yield* Effect.forkScoped(Stream.runDrain(backing.onPermitsReleased!(key)))
      }
      yield* until(Effect.map(backing.release("three", "nobody", 1, { revoke: true }), () => changes > 0))
      yield* sql`select 1`
      expect(yield* connections(observer)).toBe(2)
    }))

  it.live("is heard at once by a process that had nothing to listen to for half a minute", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const { backing, sql } = yield* buildOn(url)({ schema })
      yield* Effect.scoped(hear(backing))
      // As after half a minute: what nobody listens to is not renewed.
      yield* sql.unsafe(`update "${schema}".listeners set expires = now()`)
      yield* Effect.timeout(hear(backing), "5 seconds")
    }))

  it.live("is heard again after the connection was lost", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const { backing } = yield* buildOn(url)({ schema }, { applicationName: schema })
      const heard = yield* hear(backing)
      yield* (yield* connect(url))`
        select pg_terminate_backend(pid) from pg_stat_activity where application_name = ${schema} and query like 'LISTEN%'
      `
      const before = heard.length
      yield* until(Effect.map(backing.release("probe", "probe", 1, { revoke: true }), () => heard.length > before))
    }))
})
