/** An operation that shares a statement with others neither waits for them nor fails with them. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber } from "effect"
import { inject } from "vitest"
import { buildOn, connect, freshName } from "../utils/postgres.ts"
import * as Proxy from "../utils/proxy.ts"
import { until } from "../utils/until.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

/** Makes a schema, and a transaction that locks, or updates, the row of the key "locked" until `unlock`. */
const withLockedKeyBy = Effect.fnUntraced(function*(lock: (semaphores: string) => string) {
  const schema = freshName()
  const { backing } = yield* buildOn(url)({ schema, pushBasedAcquireEnabled: false })
  yield* backing.tryAcquire("locked", "a", minute, 1, 1)
  const other = yield* connect(url, { maxConnections: 1 })
  const isLocked = yield* Deferred.make<void>()
  const unlock = yield* Deferred.make<void>()
  const transaction = yield* Effect.forkScoped(other.withTransaction(Effect.gen(function*() {
    yield* other.unsafe(lock(`"${schema}".semaphores`))
    yield* Deferred.succeed(isLocked, undefined)
    yield* Deferred.await(unlock)
  })))
  yield* Deferred.await(isLocked)
  return { backing, schema, unlock: Effect.andThen(Deferred.succeed(unlock, undefined), Fiber.join(transaction)) }
})

const locks = {
  locked: (semaphores: string) => `select from ${semaphores} where name = '"locked"' for update`,
  updated: (semaphores: string) => `update ${semaphores} set used = used where name = '"locked"'`
}
const withLockedKey = withLockedKeyBy(locks.locked)

describe("a key that another transaction keeps locked", () => {
  it.live.each(["locked", "updated"] as const)(
    "(%s) delays no operation on another key, whether sent before, with or after its own",
    (how) =>
      Effect.gen(function*() {
        const { backing, unlock } = yield* withLockedKeyBy(locks[how])
        const ask = (key: string) => backing.tryAcquire(key, "b", minute, 1, 1)
        const waits = yield* Effect.forkScoped(ask("locked"), { startImmediately: true })
        const together = yield* Effect.forEach(
          ["before", "locked", "with", "locked"],
          (key) => Effect.forkScoped(ask(key), { startImmediately: true })
        )
        expect(yield* Effect.timeout(Fiber.join(together[0]!), "5 seconds")).toMatchObject({ _tag: "Acquired" })
        expect(yield* Effect.timeout(Fiber.join(together[2]!), "5 seconds")).toMatchObject({ _tag: "Acquired" })
        expect(yield* Effect.timeout(ask("after"), "5 seconds")).toMatchObject({ _tag: "Acquired" })
        const locked = [waits, together[1]!, together[3]!]
        expect(locked.map((fiber) => fiber.pollUnsafe())).toEqual([undefined, undefined, undefined])
        yield* unlock
        expect(yield* Effect.forEach(locked, (fiber) => Fiber.join(fiber))).toEqual([false, false, false])
      })
  )

  it.live("delays the refresh of no other key, and an operation on it that is given up leaves its connection", () =>
    Effect.gen(function*() {
      const { backing, unlock } = yield* withLockedKey
      const keys = Array.from({ length: 50 }, (_, index) => `key ${index}`)
      const short = Duration.seconds(4)
      yield* Effect.forEach(keys, (key) => backing.tryAcquire(key, "a", short, 1, 1), { concurrency: "unbounded" })
      const request = { holderId: "a", ttl: minute, limit: 1, permits: 1 }
      const refreshed = yield* Effect.forkScoped(
        backing.refreshAll!(["locked", ...keys].map((key) => ({ key, ...request }))),
        { startImmediately: true }
      )
      yield* until(
        Effect.map(
          Effect.forEach(keys, (key) => backing.inspect!(key)),
          (states) => states.every(({ holders: [holder] }) => Duration.toSeconds(holder!.remaining) > 10)
        )
      )
      expect(refreshed.pollUnsafe()).toBeUndefined()
      // This is more often than the pool has connections.
      for (let times = 0; times < 15; times++) {
        yield* Effect.timeoutOption(backing.tryAcquire("locked", "b", minute, 1, 1), "20 millis")
      }
      expect(yield* Effect.timeout(backing.tryAcquire("free", "b", minute, 1, 1), "5 seconds")).toMatchObject({
        _tag: "Acquired"
      })
      yield* unlock
      expect((yield* Fiber.join(refreshed)).filter((answer) => answer !== false)).toHaveLength(51)
    }))
})

describe("many keys that another transaction keeps locked", () => {
  it.live("make few statements wait, however many ask, and delay no operation on another key", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const { backing } = yield* buildOn(url)({ schema, pushBasedAcquireEnabled: false })
      const keys = Array.from({ length: 30 }, (_, index) => `key ${index}`)
      const ask = (key: string, id: string) => backing.tryAcquire(key, id, minute, 2, 1)
      yield* Effect.forEach(keys, (key) => ask(key, "a"), { concurrency: "unbounded" })
      const other = yield* connect(url)
      const waiting = other<{ pid: number }>`
        select pid from pg_stat_activity where wait_event_type = 'Lock' and query like ${`%${schema}%operate%`}
      `
      const most = { value: 0 }
      const fibers = yield* other.withTransaction(Effect.gen(function*() {
        yield* other.unsafe(`select from "${schema}".semaphores for update`)
        const fibers = yield* Effect.forEach(
          keys,
          (key) => Effect.forkScoped(ask(key, "b"), { startImmediately: true })
        )
        for (let look = 0; look < 50; look++) {
          most.value = Math.max(most.value, (yield* waiting).length)
          yield* Effect.sleep("20 millis")
        }
        expect(yield* Effect.timeout(ask("free", "b"), "5 seconds")).toMatchObject({ _tag: "Acquired" })
        return fibers
      }))
      expect(most.value).toBeGreaterThan(0)
      expect(most.value).toBeLessThanOrEqual(3)
      expect(yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))).toMatchObject(
        keys.map(() => ({ _tag: "Acquired" }))
      )
    }))
})

describe("an operation that PostgreSQL refuses", () => {
  it.live("fails alone: the operations that share its statement succeed", () =>
    Effect.gen(function*() {
      const schema = freshName()
      const { backing, sql } = yield* buildOn(url)({ schema, pushBasedAcquireEnabled: false })
      yield* sql.unsafe(`alter table "${schema}".contenders add check (name <> '"poison"')`)
      yield* sql.unsafe(`alter table "${schema}".semaphores add check ((lone).name <> '"poison"')`)
      const ids = Array.from({ length: 40 }, (_, index) => index === 17 ? "poison" : `holder ${index}`)
      for (const keyOf of [() => "one", (id: string) => id]) {
        const results = yield* Effect.forEach(
          ids,
          (id) => Effect.result(backing.tryAcquire(keyOf(id), id, minute, 100, 1)),
          { concurrency: "unbounded" }
        )
        expect(results.flatMap(({ _tag }, index) => _tag === "Failure" ? [ids[index]] : [])).toEqual(["poison"])
      }
      expect(yield* backing.getCount("one", minute)).toBe(ids.length - 1)
    }))
})

describe("a statement that failed for another reason is not repeated", () => {
  it.live("when its reply was lost: it may have taken effect, and takes effect once", () =>
    Effect.gen(function*() {
      const { hostname, port } = new URL(url)
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => Proxy.make({ host: hostname, port: Number(port) })),
        (proxy) => Effect.promise(() => proxy.close())
      )
      const proxied = new URL(url)
      proxied.port = String(proxy.port)
      // Prepared statements would be sent without their text.
      const pool = { prepare: false }
      const { backing } = yield* buildOn(proxied.href)({ schema: freshName(), pushBasedAcquireEnabled: false }, pool)
      const keys = ["one", "other"]
      yield* Effect.forEach(keys, (key) => backing.tryAcquire(key, "a", minute, 6, 6))
      const lost = proxy.loseReplyTo(".operate(", "reset")
      const exits = yield* Effect.forEach(keys, (key) => Effect.exit(backing.release(key, "a", 2)), {
        concurrency: "unbounded"
      })
      yield* Effect.promise(() => lost)
      expect(exits.map(({ _tag }) => _tag)).toEqual(["Failure", "Failure"])
      expect(yield* Effect.forEach(keys, (key) => backing.getCount(key, minute))).toEqual([4, 4])
    }))

  it.live("when it took too long: all operations that shared it fail at once", () =>
    Effect.gen(function*() {
      const { schema, unlock } = yield* withLockedKey
      const { backing } = yield* buildOn(url)({ schema, pushBasedAcquireEnabled: false }, {
        startupParameters: { statement_timeout: "500" }
      })
      const results = yield* Effect.forEach(
        Array.from({ length: 33 }, (_, index) => `holder ${index}`),
        (id) => Effect.result(backing.tryAcquire("locked", id, minute, 1, 1)),
        { concurrency: "unbounded" }
      ).pipe(Effect.timeout("10 seconds"))
      expect(results.map(({ _tag }) => _tag)).toEqual(results.map(() => "Failure"))
      yield* unlock
    }))
})
