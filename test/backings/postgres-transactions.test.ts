/** Neither the operations nor the migrations of the backing join a transaction of the caller's. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit } from "effect"
import { inject } from "vitest"
import { DistributedSemaphore } from "../../src/index.ts"
import { buildOn, freshName } from "../utils/postgres.ts"

const url = inject("postgresUrl")
const minute = Duration.minutes(1)

const build = buildOn(url)

describe("a transaction of the caller's", () => {
  it.live("is not joined: what is done inside is visible at once, survives the rollback, and locks nothing", () =>
    Effect.gen(function*() {
      const { backing, sql } = yield* build()
      const other = yield* build()
      const key = freshName()
      const rolledBack = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
        yield* sql`select 1`
        expect(yield* backing.tryAcquire(key, "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
        // Others see it, and are not kept waiting.
        const asked = other.backing.tryAcquire(key, "b", minute, 1, 1)
        expect(yield* Effect.timeout(asked, "2 seconds")).toBe(false)
        expect(yield* other.backing.getCount(key, minute)).toBe(1)
        return yield* Effect.fail("rollback")
      })))
      expect(Exit.isFailure(rolledBack)).toBe(true)
      expect(yield* other.backing.getCount(key, minute)).toBe(1)
      expect(yield* backing.refresh(key, "a", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
    }))

  it.live("withPermits inside one releases although it is rolled back", () =>
    Effect.gen(function*() {
      const { context, sql } = yield* build()
      yield* Effect.gen(function*() {
        const mutex = yield* DistributedSemaphore.make(freshName(), { ttl: minute })
        const work = Effect.andThen(sql`select 1`, Effect.fail("rollback"))
        yield* Effect.exit(sql.withTransaction(mutex.withPermits(1)(work)))
        expect(yield* mutex.currentCount).toBe(0)
      }).pipe(Effect.provide(context))
    }))
})
