/** PostgreSQL: connections are cut, the server restarts or freezes, acquires are interrupted. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import * as Fibers from "../utils/fibers.ts"
import { interruptTakes } from "../utils/interruptions.ts"
import { connect, connections, server } from "../utils/postgres.ts"
import { longestStall } from "../utils/stall.ts"
import { buildTwice, inBoth } from "../utils/twoProcesses.ts"
import { until } from "../utils/until.ts"

const backing = (sql: PgClient.PgClient, options: PostgresBacking.PostgresBackingOptions = {}) =>
  PostgresBacking.layer(options).pipe(Layer.provide(Layer.succeed(PgClient.PgClient, sql)))

/** Runs workers of two processes that acquire again and again until `stop`. `seen` counts how often, and how many work at once. */
const load = Effect.fnUntraced(function*(sql: PgClient.PgClient, limit: number) {
  const semaphores = yield* inBoth(yield* buildTwice(backing(sql)), "load", { limit, ttl: "2 seconds" })
  const seen = { out: 0, most: 0, done: 0, lost: 0 }
  const running = { value: true }
  const work = Effect.acquireUseRelease(
    Effect.sync(() => void (seen.most = Math.max(seen.most, ++seen.out))),
    () => Effect.sleep("5 millis"),
    () => Effect.sync(() => void seen.out--)
  )
  const worker = (semaphore: DistributedSemaphore.DistributedSemaphore) =>
    Effect.gen(function*() {
      while (running.value) {
        const exit = yield* Effect.exit(semaphore.withPermits(1)(work))
        if (exit._tag === "Success") seen.done++
        else seen.lost++
      }
    })
  const workers = yield* Effect.forEach(
    Array.from({ length: 15 }).flatMap(() => semaphores),
    (semaphore) => Effect.forkScoped(worker(semaphore))
  )
  return {
    semaphore: semaphores[0],
    seen,
    stop: Effect.andThen(
      Effect.sync(() => void (running.value = false)),
      Effect.timeout(Fiber.awaitAll(workers), "20 seconds")
    )
  }
})

describe("connections that are cut, or that hang", () => {
  it.live(
    "by pg_terminate_backend, again and again: the limit is kept, work goes on, and nothing is left",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server
        const observer = yield* connect(url)
        const sql = yield* connect(url)
        yield* Effect.gen(function*() {
          const mutex = yield* DistributedSemaphore.make("kept", { ttl: "2 seconds" })
          const holder = yield* Effect.forkScoped(Effect.flip(mutex.withPermits(1)(Effect.never)))
          yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
          const { seen, semaphore, stop } = yield* load(sql, 3)
          let terminated = 0
          for (let round = 0; round < 30 || terminated <= 50; round++) {
            yield* Effect.sleep("150 millis")
            const rows = yield* observer`
            select pg_terminate_backend(pid) from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid()
          `
            terminated += rows.length
          }
          const before = seen.done
          // The pool opens all its connections anew, while thirty workers wait for one.
          yield* until(Effect.sync(() => seen.done > before + 50), "40 seconds")
          yield* stop
          // The long hold keeps its lease, or its holder learns that it has lost it.
          if (holder.pollUnsafe() === undefined) {
            yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
            yield* Fiber.interrupt(holder)
          } else {
            expect(yield* Fiber.join(holder)).toMatchObject({ _tag: "LockLostError" })
          }
          expect(terminated).toBeGreaterThan(50)
          expect(seen.most).toBe(3)
          yield* until(
            Effect.map(semaphore.inspect, ({ holders, line }) => holders.length + line.length === 0),
            "30 seconds"
          )
        }).pipe(Effect.provide(backing(sql)))
      }),
    90_000
  )

  it.live(
    "by a restart of the server: waiters acquire afterwards, and are notified again",
    () =>
      Effect.gen(function*() {
        const postgres = yield* server
        yield* Effect.gen(function*() {
          const { seen, semaphore, stop } = yield* load(yield* connect(postgres.url), 3)
          for (let round = 0; round < 3; round++) {
            const before = seen.done
            yield* until(Effect.sync(() => seen.done > before + 50), "20 seconds")
            yield* Effect.promise(postgres.kill)
            yield* Effect.sleep("300 millis")
            yield* Effect.promise(postgres.restart)
          }
          const before = seen.done
          // 300 hand-offs by polling once a second would take minutes.
          yield* until(Effect.sync(() => seen.done > before + 300), "20 seconds")
          yield* stop
          expect(seen.most).toBe(3)
          yield* until(Effect.map(semaphore.inspect, ({ holders, line }) => holders.length + line.length === 0))
        }).pipe(Effect.scoped)
      }),
    90_000
  )

  it.live(
    "while the server is frozen: the holder is interrupted in time, and a waiter can be interrupted",
    () =>
      Effect.gen(function*() {
        const postgres = yield* server
        const sql = yield* connect(postgres.url)
        yield* Effect.gen(function*() {
          const semaphore = yield* DistributedSemaphore.make("frozen", { ttl: "4 seconds" })
          const holder = yield* Effect.forkScoped(Effect.flip(semaphore.withPermits(1)(Effect.never)))
          yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
          const waiter = yield* Effect.forkScoped(semaphore.withPermits(1)(Effect.void))
          yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))

          yield* Effect.promise(postgres.freeze)
          const stall = yield* longestStall
          const [sinceFreeze, error] = yield* Effect.timed(Fiber.join(holder))
          expect(error).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
          expect(Duration.toMillis(sinceFreeze) - (yield* stall)).toBeLessThan(4000)
          const [duration] = yield* Effect.timed(Fiber.interrupt(waiter))
          expect(Duration.toMillis(duration)).toBeLessThan(1500)

          yield* Effect.promise(postgres.thaw)
          yield* until(
            Effect.map(Effect.exit(semaphore.withPermits(1)(Effect.void)), (exit) => exit._tag === "Success")
          )
          yield* until(Effect.map(semaphore.inspect, ({ holders, line }) => holders.length + line.length === 0))
        }).pipe(
          Effect.provide(backing(sql)),
          // The client of a frozen server does not close, which would hide a failure.
          Effect.ensuring(Effect.promise(postgres.thaw))
        )
      }),
    60_000
  )

  it.live("while the server is frozen: the layer closes without waiting for the server", () =>
    Effect.gen(function*() {
      const postgres = yield* server
      const sql = yield* connect(postgres.url)
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(backing(sql), scope)
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make("key", { ttl: "3 seconds", refreshInterval: "100 millis" })
        const holder = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.never))
        const waiter = yield* Effect.forkScoped(mutex.withPermits(1)(Effect.never))
        yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 1))
        yield* Effect.promise(postgres.freeze)
        // By now a refresh is under way.
        yield* Effect.sleep("300 millis")
        const [duration] = yield* Effect.timed(
          Effect.andThen(Fiber.interruptAll([holder, waiter]), Scope.close(scope, Exit.void))
        )
        expect(Duration.toMillis(duration)).toBeLessThan(1500)
      }).pipe(Effect.provide(context), Effect.ensuring(Effect.promise(postgres.thaw)))
    }))
})

describe.each([true, false])("interrupting take after 0 to 12 ms, push %s", (push) => {
  it.live(
    "1000 times leaves no permit, no place and no fiber, and the pool is whole",
    () =>
      Fibers.counted((running) =>
        Effect.gen(function*() {
          const { url } = yield* server
          const observer = yield* connect(url)
          const maxConnections = 6
          const sql = yield* connect(url, { maxConnections })
          yield* Effect.gen(function*() {
            const semaphore = yield* DistributedSemaphore.make("key", { limit: 2, ttl: "1 minute" })
            // First, all connections are opened, and the LISTEN stands.
            const holder = yield* Scope.make()
            yield* Scope.provide(semaphore.take(2), holder)
            const waiter = yield* Effect.forkChild(Effect.scoped(semaphore.take(1)))
            yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))
            yield* Fiber.interrupt(waiter)
            yield* Scope.close(holder, yield* Effect.exit(Effect.void))
            const free = push ? maxConnections - 1 : maxConnections
            // All at once: with a connection less, this waits for ever.
            const useAll = Effect.scoped(
              Effect.all(Array.from({ length: free }, () => sql.reserve), { concurrency: "unbounded" })
            ).pipe(Effect.timeout("20 seconds"))
            yield* useAll
            const before = yield* Fibers.steady(running)

            yield* interruptTakes(semaphore, 12)
            yield* until(Effect.map(semaphore.inspect, ({ holders, line }) => holders.length + line.length === 0))
            yield* useAll
            expect(yield* Fibers.steady(running)).toBe(before)
            expect(yield* connections(observer)).toBe(maxConnections)
          }).pipe(Effect.provide(backing(sql, { pushBasedAcquireEnabled: push })))
        })
      ),
    120_000
  )
})
