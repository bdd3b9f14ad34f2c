/** Behind PgBouncer: what docs/postgres.md says of poolers. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import type { Context } from "effect"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import * as PgBouncer from "../servers/pgBouncer.ts"
import { buildOn, connect, server } from "../utils/postgres.ts"
import { inBoth } from "../utils/twoProcesses.ts"
import { until } from "../utils/until.ts"

/** Starts a server, and PgBouncer in front of it. */
const pooled = Effect.fnUntraced(function*(poolMode: "session" | "transaction", users?: ReadonlyArray<string>) {
  const postgres = yield* server
  const { url } = yield* Effect.acquireRelease(
    Effect.promise(() => PgBouncer.start(postgres, poolMode, users)),
    (bouncer) => Effect.promise(() => bouncer.stop())
  )
  return { direct: postgres.url, url }
})

/**
 * Measures hand-offs from another process to a waiter that has waited for a while, in milliseconds. The waiter polls at the
 * interval.
 */
const handOffs = Effect.fnUntraced(function*(
  direct: string,
  context: Context.Context<DistributedSemaphoreBacking>,
  acquireRetryInterval: Duration.Input
) {
  const other = yield* buildOn(direct)()
  const [held, awaited] = yield* inBoth([other.context, context], "key", { ttl: "1 minute", acquireRetryInterval })
  const times: Array<number> = []
  for (let round = 0; round < 5; round++) {
    const holder = yield* Scope.make()
    yield* Scope.provide(held.take(1), holder)
    const waiter = yield* Effect.forkScoped(awaited.withPermits(1)(Effect.sync(() => performance.now())))
    yield* until(Effect.map(held.inspect, ({ line }) => line.length === 1))
    yield* Effect.sleep("200 millis")
    const start = performance.now()
    yield* Scope.close(holder, Exit.void)
    times.push((yield* Effect.timeout(Fiber.join(waiter), "10 seconds")) - start)
  }
  return times
})

describe("in transaction mode", () => {
  it.live("waiters poll, because notifications do not reach them", () =>
    Effect.gen(function*() {
      const { direct, url } = yield* pooled("transaction")
      const { context } = yield* buildOn(url)({}, { prepare: false })
      // By polling: a waiter that trusts in notifications would look after a second.
      for (const time of yield* handOffs(direct, context, "100 millis")) expect(time).toBeLessThan(700)
    }))

  it.live("waiters are notified over a listenClient that connects directly", () =>
    Effect.gen(function*() {
      const { direct, url } = yield* pooled("transaction")
      const listenClient = yield* connect(direct, { maxConnections: 1 })
      const { context } = yield* buildOn(url)({ listenClient }, { prepare: false })
      for (const time of yield* handOffs(direct, context, "1 minute")) expect(time).toBeLessThan(700)
    }))

  it.live("a role may have the isolation level that the backing needs, whatever that of the database is", () =>
    Effect.gen(function*() {
      const { direct, url } = yield* pooled("transaction", ["postgres", "application"])
      const owner = yield* connect(direct)
      yield* owner`alter database postgres set default_transaction_isolation = 'repeatable read'`
      yield* owner`create role application login superuser`
      const pool = { prepare: false, username: "application" }
      expect(String(yield* Effect.flip(buildOn(direct)({}, pool)))).toContain("READ COMMITTED")
      yield* owner`alter role application set default_transaction_isolation = 'read committed'`
      const { backing } = yield* buildOn(url)({}, pool)
      expect(yield* backing.tryAcquire("key", "a", Duration.minutes(1), 1, 1)).toMatchObject({ _tag: "Acquired" })
    }))
})

describe("in session mode", () => {
  it.live("waiters are notified", () =>
    Effect.gen(function*() {
      const { direct, url } = yield* pooled("session")
      const { context } = yield* buildOn(url)()
      for (const time of yield* handOffs(direct, context, "1 minute")) expect(time).toBeLessThan(700)
    }))
})

describe("a listenClient of another database", () => {
  it.live("is noticed: waiters poll", () =>
    Effect.gen(function*() {
      const { direct } = yield* pooled("session")
      yield* (yield* connect(direct))`create database other`
      const listenClient = yield* connect(Object.assign(new URL(direct), { pathname: "other" }).href)
      const { context } = yield* buildOn(direct)({ listenClient })
      for (const time of yield* handOffs(direct, context, "100 millis")) expect(time).toBeLessThan(700)
    }))
})
