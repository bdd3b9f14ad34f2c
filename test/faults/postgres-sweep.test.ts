/** PostgreSQL: a sweep removes expired rows while operations go on. */
import { PgClient } from "@effect/sql-pg"
import { expect, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { DistributedSemaphoreBacking } from "../../src/index.ts"
import { buildOn, connect, server } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

it.live("a sweep and releases of what it sweeps cause no deadlock", () =>
  Effect.gen(function*() {
    const sql = yield* connect((yield* server).url)
    // This clock measures only the pauses between sweeps.
    const clock = yield* TestClock.make()
    const context = yield* Layer.build(PostgresBacking.layer({ pushBasedAcquireEnabled: false })).pipe(
      Effect.provideService(PgClient.PgClient, sql),
      Effect.provideService(Clock.Clock, clock)
    )
    const backing = Context.get(context, DistributedSemaphoreBacking)
    const keys = Array.from({ length: 1000 }, (_, index) => `key ${index}`)
    const concurrently = { concurrency: 10, discard: true } as const
    const ttl = Duration.seconds(2)
    yield* Effect.forEach(keys, (key) =>
      Effect.gen(function*() {
        yield* backing.tryAcquire(key, "a", ttl, 2, 1)
        yield* backing.tryAcquire(key, "b", ttl, 2, 1)
        expect(yield* backing.tryAcquire(key, "c", ttl, 2, 2, { queue: true })).toMatchObject({ _tag: "Waiting" })
      }), concurrently)
    // A sweep removes what expired ten seconds ago.
    yield* Effect.sleep("13 seconds")

    const sweep = yield* Effect.forkChild(clock.adjust("30 seconds"), { startImmediately: true })
    yield* Effect.forEach(keys, (key) => backing.release(key, "a", 2), concurrently)
    yield* Fiber.join(sweep)

    // The server's processes report their counts once a second, and only when they are used.
    yield* Effect.sleep("1500 millis")
    yield* Effect.forEach(keys.slice(0, 10), (key) => backing.getCount(key, ttl), concurrently)
    const [row] = yield* sql<{ deadlocks: bigint; removed: bigint }>`
      select deadlocks, (select sum(n_tup_del)::bigint from pg_stat_user_tables) as removed
      from pg_stat_database where datname = current_database()
    `
    expect(Number(row!.deadlocks)).toBe(0)
    // More rows than the contenders, which the releases alone would have removed: the sweep was at work.
    expect(Number(row!.removed)).toBeGreaterThan(3 * keys.length)
  }))

it.live("a process removes all that others have left as soon as it has built the layer", () =>
  Effect.gen(function*() {
    const { sql } = yield* buildOn((yield* server).url)({ pushBasedAcquireEnabled: false })
    yield* sql`
      insert into effect_distributed_lock.semaphores (key, name, used)
      select sha256(number::text::bytea), number::text, now() - interval '1 minute' from generate_series(1, 2500) number
    `
    yield* Layer.build(PostgresBacking.layer({ pushBasedAcquireEnabled: false })).pipe(
      Effect.provideService(PgClient.PgClient, sql)
    )
    yield* until(
      Effect.map(sql`select from effect_distributed_lock.semaphores limit 1`, ({ length }) => length === 0)
    )
  }))

it.live("a sweep does not wait for a process that is just saying what it listens to", () =>
  Effect.gen(function*() {
    const { url } = yield* server
    const { sql } = yield* buildOn(url)({ pushBasedAcquireEnabled: false })
    const other = yield* connect(url)
    const greet = other`select effect_distributed_lock.greet('channel', 'greeting', '{}')`
    yield* greet
    yield* sql`update effect_distributed_lock.listeners set expires = now()`
    yield* other.withTransaction(Effect.andThen(
      greet,
      Effect.timeout(sql`select effect_distributed_lock.sweep(interval '10 seconds')`, "5 seconds")
    ))
  }))
