/** PostgreSQL: a server whose clock is set back or forward, as by an administrator or a failover to another machine. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import * as ServerWithClock from "../servers/clock.ts"
import { buildOn } from "../utils/postgres.ts"

const minute = Duration.minutes(1)

const server = Effect.acquireRelease(
  Effect.promise(() => ServerWithClock.start()),
  (server) => Effect.promise(() => server.stop())
)

describe("a server clock that goes back", () => {
  it.live("revives no hold and no place that had expired when permits were given out", () =>
    Effect.gen(function*() {
      const { setClock, url } = yield* server
      const { backing } = yield* buildOn(url)({ pushBasedAcquireEnabled: false })
      yield* backing.tryAcquire("key", "a", Duration.seconds(3), 1, 1)
      yield* backing.tryAcquire("key", "b", Duration.seconds(3), 1, 1, { queue: true })
      setClock(4)
      expect(yield* backing.getCount("key", minute)).toBe(0)
      expect(yield* backing.tryAcquire("key", "c", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      setClock(0)
      expect(yield* backing.getCount("key", minute)).toBe(1)
      expect(yield* backing.refresh("key", "a", minute, 1, 1)).toBe(false)
      expect(yield* backing.tryAcquire("key", "d", minute, 1, 1, { queue: true })).toMatchObject({ position: 0 })
      const { holders, line } = yield* backing.inspect!("key")
      expect(holders.map(({ identifier }) => identifier)).toEqual(["c"])
      expect(line.map(({ identifier }) => identifier)).toEqual(["d"])
    }))

  it.live("between two acquisitions keeps their tokens in order, and does not shorten the earlier hold", () =>
    Effect.gen(function*() {
      const { setClock, url } = yield* server
      const { backing } = yield* buildOn(url)({ pushBasedAcquireEnabled: false })
      setClock(60)
      yield* backing.tryAcquire("key", "a", minute, 2, 1)
      setClock(0)
      yield* backing.tryAcquire("key", "b", minute, 2, 1)
      const { holders: [a, b] } = yield* backing.inspect!("key")
      expect([a!.identifier, b!.identifier]).toEqual(["a", "b"])
      expect(b!.fencingToken).toBeGreaterThan(a!.fencingToken)
      expect(Duration.toSeconds(a!.remaining)).toBeGreaterThan(100)
    }))
})
