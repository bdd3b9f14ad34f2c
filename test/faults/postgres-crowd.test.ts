/** Crowds: many waiters on one key, and many processes with many keys. */
import { expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import { inject } from "vitest"
import { DistributedSemaphore } from "../../src/index.ts"
import { buildOn, connect, freshName, server } from "../utils/postgres.ts"

const build = buildOn(inject("postgresUrl"))

it.live("a thousand waiters with a ttl of 5 seconds acquire at a steady rate, and none fails", () =>
  Effect.gen(function*() {
    const { context } = yield* build()
    const mutex = yield* Effect.provide(DistributedSemaphore.make(freshName(), { ttl: "5 seconds" }), context)
    let done = 0
    let failed = 0
    const waiters = yield* Effect.forEach(
      Array.from({ length: 1000 }),
      () =>
        Effect.forkScoped(
          Effect.onExit(mutex.withPermits(1)(Effect.sleep("20 millis")), (exit) =>
            Effect.sync(() => Exit.isSuccess(exit) ? done++ : Exit.hasInterrupts(exit) || failed++))
        )
    )
    // Meanwhile each place is renewed several times.
    const inSixSeconds = Effect.suspend(() => {
      const before = done
      return Effect.map(Effect.sleep("6 seconds"), () => done - before)
    })
    const rates = [yield* inSixSeconds, yield* inSixSeconds]
    expect(failed).toBe(0)
    for (const rate of rates) expect(rate).toBeGreaterThan(Math.max(...rates) / 4)
    yield* Fiber.interruptAll(waiters)
  }))

it.live("35 processes that acquire and refresh 200 keys each at the same time leave room in the server's lock table", () =>
  Effect.gen(function*() {
    const { url } = yield* server
    const schema = freshName()
    yield* buildOn(url)({ schema, pushBasedAcquireEnabled: false })
    const processes = 35
    const sql = yield* connect(url, { maxConnections: processes })
    const all = yield* Deferred.make<void>()
    let arrived = 0
    const answers = (kind: string, process: number) =>
      sql.unsafe<{ answer: string }>(
        `select distinct answer from "${schema}".operate(
          array_fill('${kind}'::text, array[200]),
          (select array_agg('key ${process} ' || n order by n) from generate_series(1001, 1200) n),
          array_fill('holder'::text, array[200]), array_fill(1::bigint, array[200]), array_fill(1::bigint, array[200]),
          array_fill(60000::bigint, array[200]), array_fill(0::bigint, array[200]), array_fill(0::bigint, array[200]), null, 'owner', false
        )`
      )
    const results = yield* Effect.forEach(
      Array.from({ length: processes }, (_, index) => index),
      (process) =>
        sql.withTransaction(Effect.gen(function*() {
          const rows = [...yield* answers("acquire", process), ...yield* answers("refresh", process)]
          // Each transaction keeps its locks until all have theirs.
          if (++arrived === processes) yield* Deferred.succeed(all, undefined)
          yield* Deferred.await(all)
          return rows.map(({ answer }) => answer)
        })),
      { concurrency: "unbounded" }
    )
    expect(results).toEqual(Array.from({ length: processes }, () => ["acquired", "acquired"]))
  }))
