/** A holder that is alone stands in the row of its semaphore, and in one of its own as soon as it is joined, or stays. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { inject } from "vitest"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import { FencingToken } from "../../src/index.ts"
import { buildOn, freshName } from "../utils/postgres.ts"
import { until } from "../utils/until.ts"

const minute = Duration.minutes(1)

type Backing = (typeof DistributedSemaphoreBacking)["Service"]

/** Builds a backing, and reads where the contenders of all its keys stand. */
const build = Effect.gen(function*() {
  const schema = freshName()
  const { backing, sql } = yield* buildOn(inject("postgresUrl"))({ schema, pushBasedAcquireEnabled: false })
  const rows = sql.unsafe<{ alone: boolean; others: bigint }>(
    `select (lone).token > 0 as alone, (select count(*) from "${schema}".contenders) as others from "${schema}".semaphores`
  ).pipe(Effect.map(([row]) => ({ alone: row!.alone ?? false, others: Number(row!.others) })))
  return { backing, rows }
})

/** What others, or the holder, may do while it is alone, and what `inspect` then lists. */
const disturbances: ReadonlyArray<{
  readonly when: string
  readonly act: (backing: Backing, token: FencingToken) => Effect.Effect<unknown, unknown>
  readonly answer: object | number | false
  readonly holders: ReadonlyArray<readonly [string, number]>
  readonly line?: ReadonlyArray<string>
}> = [
  {
    when: "another acquires",
    act: (backing) => backing.tryAcquire("key", "b", minute, 3, 1),
    answer: { _tag: "Acquired" },
    holders: [["a", 2], ["b", 1]]
  },
  {
    when: "another waits",
    act: (backing) => backing.tryAcquire("key", "b", minute, 3, 2, { queue: true }),
    answer: { _tag: "Waiting", position: 0 },
    holders: [["a", 2]],
    line: ["b"]
  },
  {
    when: "another is refused",
    act: (backing) => backing.tryAcquire("key", "b", minute, 3, 2),
    answer: false,
    holders: [["a", 2]]
  },
  {
    when: "it asks again",
    act: (backing) => backing.tryAcquire("key", "a", minute, 3, 2),
    answer: { _tag: "Acquired" },
    holders: [["a", 2]]
  },
  {
    when: "it asks for another number of permits",
    act: (backing) => backing.tryAcquire("key", "a", minute, 3, 3),
    answer: { _tag: "Acquired" },
    holders: [["a", 3]]
  },
  {
    when: "it refreshes",
    act: (backing, fencingToken) => backing.refresh("key", "a", Duration.minutes(2), 3, 2, { fencingToken }),
    answer: { _tag: "Acquired" },
    holders: [["a", 2]]
  },
  {
    when: "it releases a part",
    act: (backing) => backing.release("key", "a", 1),
    answer: 1,
    holders: [["a", 1]]
  },
  {
    when: "another hold is released",
    act: (backing, fencingToken) => backing.release("key", "a", 2, { fencingToken: FencingToken(fencingToken + 1n) }),
    answer: 0,
    holders: [["a", 2]]
  },
  {
    when: "it is revoked",
    act: (backing) => backing.release("key", "a", 2, { revoke: true }),
    answer: 2,
    holders: []
  }
]

describe("a lone holder", () => {
  for (const { act, answer, holders, line = [], when } of disturbances) {
    it.live(`gets a row of its own when ${when}`, () =>
      Effect.gen(function*() {
        const { backing, rows } = yield* build
        const acquired = yield* backing.tryAcquire("key", "a", minute, 3, 2)
        if (typeof acquired === "boolean") return expect.unreachable()
        expect(yield* rows).toEqual({ alone: true, others: 0 })
        expect(yield* backing.getCount("key", minute)).toBe(2)
        const alone = yield* backing.inspect!("key")
        expect(alone.holders).toMatchObject([{ identifier: "a", permits: 2, fencingToken: acquired.fencingToken }])
        expect(alone).toMatchObject({ holderCount: 1, waiterCount: 0, line: [] })

        const answered = yield* act(backing, acquired.fencingToken)
        expect(answered).toEqual(typeof answer === "object" ? expect.objectContaining(answer) : answer)
        expect(yield* rows).toEqual({ alone: false, others: holders.length + line.length })
        const after = yield* backing.inspect!("key")
        expect(after.holders.map(({ identifier, permits }) => [identifier, permits])).toEqual(holders)
        expect(after.line.map(({ identifier }) => identifier)).toEqual(line)

        for (const [id, permits] of holders) {
          expect(yield* backing.release("key", id, permits)).toBe(permits)
        }
        for (const id of line) yield* backing.release("key", id, 2)
        expect(yield* backing.getCount("key", minute)).toBe(0)
        expect(yield* backing.tryAcquire("key", "c", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
        expect(yield* rows).toEqual({ alone: true, others: 0 })
      }))
  }

  it.live("inserts and deletes nothing, and is gone when it has expired", () =>
    Effect.gen(function*() {
      const { backing, rows } = yield* build
      for (let cycle = 0; cycle < 3; cycle++) {
        yield* backing.tryAcquire("key", `holder ${cycle}`, minute, 1, 1)
        expect(yield* rows).toEqual({ alone: true, others: 0 })
        expect(yield* backing.release("key", `holder ${cycle}`, 1)).toBe(1)
        expect(yield* rows).toEqual({ alone: false, others: 0 })
      }
      yield* backing.tryAcquire("key", "a", Duration.millis(50), 1, 1)
      yield* until(Effect.map(backing.getCount("key", minute), (count) => count === 0))
      expect(yield* backing.inspect!("key")).toMatchObject({ holders: [], line: [], holderCount: 0 })
      expect(yield* rows).toEqual({ alone: true, others: 0 })
      expect(yield* backing.refresh("key", "a", minute, 1, 1)).toBe(false)
      expect(yield* rows).toEqual({ alone: false, others: 0 })
    }))
})
