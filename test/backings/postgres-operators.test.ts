/** What operators see of semaphores in PostgreSQL, and what they take away. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Fiber, Stream } from "effect"
import { inject } from "vitest"
import type { Revocation } from "../../src/core/Backing.ts"
import type { DistributedSemaphoreBacking, FencingToken } from "../../src/index.ts"
import { DistributedSemaphore, Lease } from "../../src/index.ts"
import { buildOn, connect, connections, freshName, server } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

describe("inspect", () => {
  it.live("shows the owner of each contender, which follows when another process takes over, and since when it is there", () =>
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
      // By refreshing, and by asking again.
      yield* two.backing.refresh("key", "a", minute, 2, 1)
      yield* two.backing.tryAcquire("key", "b", minute, 2, 1)
      yield* two.backing.refresh("key", "c", minute, 2, 1)
      yield* two.backing.tryAcquire("key", "d", minute, 2, 1, { queue: true })
      const second = yield* look
      expect(owners(second)).toEqual(["two", "two", "two", "two"])
      expect(second.map(({ since }) => since)).toEqual(first.map(({ since }) => since))
    }))

  it.live("counts only what has not expired, also of holders whose earliest expiry has been put off", () =>
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

/** Collects what a process hears of revocations, once it listens. */
const hear = Effect.fnUntraced(function*(backing: DistributedSemaphoreBacking) {
  const heard: Array<Revocation> = []
  yield* Effect.forkScoped(
    Stream.runForEach(backing.onRevoked!, (revocation) => Effect.sync(() => heard.push(revocation)))
  )
  yield* until(Effect.map(backing.release("probe", "probe", 1, { revoke: true }), () => heard.length > 0))
  return heard
})

describe("a revocation", () => {
  it.live("is heard whatever the names: long ones, and such that begin alike in one statement", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const listening = yield* buildOn(url)({ schema })
      // A process that does not listen revokes, too.
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

  it.live("interrupts a hold of more than a second within 100 ms, while others come and go, and the limit is kept", () =>
    Effect.gen(function*() {
      const limit = 3
      const schema = freshName()
      const processes = yield* Effect.forEach([1, 2, 3], () => buildOn(url)({ schema }))
      const [one, two, three] = yield* Effect.forEach(
        processes,
        ({ context }) => Effect.provide(DistributedSemaphore.make("key", { limit, ttl: minute }), context)
      )

      /** Each hold: when it was asked for, when acquired, and when it was over at the latest. */
      const history: Array<{ id: string; token: FencingToken; asked: number; acquired: number; end: number }> = []
      const hold = (semaphore: DistributedSemaphore.DistributedSemaphore, id: string, work: Effect.Effect<void>) =>
        Effect.suspend(() => {
          const asked = performance.now()
          return semaphore.withPermits(1, { identifier: id })(Effect.gen(function*() {
            const token = yield* Effect.fromOption((yield* Lease).fencingToken)
            const entry = { id, token, asked, acquired: performance.now(), end: Number.POSITIVE_INFINITY }
            history.push(entry)
            yield* Effect.ensuring(work, Effect.sync(() => entry.end = Math.min(entry.end, performance.now())))
          }))
        })

      const others = yield* Effect.forEach(
        Array.from({ length: 12 }, (_, index) => index),
        (index) =>
          Effect.forkScoped(
            Effect.forever(hold(index % 2 === 0 ? one! : two!, `other ${index}`, Effect.sleep("2 millis")))
          )
      )
      const delays: Array<number> = []
      for (let round = 0; round < 3; round++) {
        const stuck = yield* Effect.forkScoped(hold(two!, "stuck", Effect.never))
        yield* until(Effect.sync(() => history.filter(({ id }) => id === "stuck").length > round))
        const entry = history.findLast(({ id }) => id === "stuck")!
        // The core listens on behalf of what is older than a second, and looks for such once a second.
        yield* Effect.sleep("2500 millis")
        // The hold counts until it is revoked. From then on there may be two.
        entry.end = performance.now()
        expect(yield* three!.revoke("stuck")).toBe(1)
        const revoked = performance.now()
        expect(yield* Effect.flip(Fiber.join(stuck))).toMatchObject({ _tag: "LockLostError", reason: "revoked" })
        delays.push(performance.now() - revoked)
      }
      // The machine may be busy with other tests.
      expect(delays.toSorted((a, b) => a - b)[1]).toBeLessThan(100)
      yield* Fiber.interruptAll(others)

      expect(history.length).toBeGreaterThan(100)
      const tokens = history.map(({ token }) => token)
      expect(new Set(tokens).size).toBe(tokens.length)
      for (const { acquired, end } of history) {
        const together = history.filter((other) => other.acquired <= acquired && acquired < other.end)
        expect(together.length).toBeLessThanOrEqual(limit)
        expect(end).toBeLessThan(Number.POSITIVE_INFINITY)
      }
      for (const earlier of history) {
        for (const later of history) if (earlier.acquired < later.asked) expect(later.token > earlier.token).toBe(true)
      }
    }))
})
