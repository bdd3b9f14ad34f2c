/** The checker of histories, where a store may say later where a contender stands. */
import { Duration } from "effect"
import { describe, expect, it } from "vitest"
import { FencingToken } from "../../src/index.ts"
import type { Recorded } from "../../src/testing/internal/model/histories.ts"
import { linearize } from "../../src/testing/internal/model/linearizability.ts"
import type { Answer, Operation } from "../../src/testing/internal/model/model.ts"

const ttl = 60_000_000_000n

const call = (invoked: number, returned: number, operation: Operation, answer: Answer): Recorded => ({
  client: 0,
  operation,
  answer,
  at: { earliest: BigInt(invoked), latest: BigInt(returned) },
  invoked,
  returned
})

const asks = (id: string, permits: number): Operation => ({
  _tag: "tryAcquire",
  id,
  permits,
  limit: 4,
  ttl,
  queue: true
})

const acquired = (token: bigint): Answer => ({ _tag: "Acquired", fencingToken: FencingToken(token) })

const waits = (token: bigint, position: number): Answer => ({
  _tag: "Waiting",
  fencingToken: FencingToken(token),
  position,
  retryAfter: undefined
})

const one = (identifier: string, permits: number, token: bigint) => ({
  identifier,
  permits,
  fencingToken: FencingToken(token),
  remaining: Duration.nanos(ttl)
})

/** While the third asks, somebody sees it wait behind the second, and the first releases. */
const history = (answer: Answer, freed = 4): ReadonlyArray<Recorded> => [
  call(0, 1, asks("first", 4), acquired(1n)),
  call(2, 3, asks("second", 4), waits(2n, 0)),
  call(4, 9, asks("third", 1), answer),
  call(5, 6, { _tag: "inspect" }, {
    holders: [one("first", 4, 1n)],
    line: [one("second", 4, 2n), one("third", 1, 3n)],
    holderCount: 1,
    waiterCount: 2
  }),
  call(7, 8, { _tag: "release", id: "first", permits: freed, token: undefined }, freed)
]

const isLinearizable = (history: ReadonlyArray<Recorded>, standsLater: boolean) =>
  linearize(history, { granularity: 1_000_000_000n, drift: 1n }, standsLater) === undefined

describe("an answer that tells where a contender stands", () => {
  it("when it took effect is right", () => {
    expect([false, true].map((later) => isLinearizable(history(waits(3n, 1)), later))).toEqual([true, true])
  })

  it("at a later moment of the call is right only for a store that may say so later", () => {
    expect([false, true].map((later) => isLinearizable(history(waits(3n, 0)), later))).toEqual([false, true])
  })

  it("at no moment of the call is wrong for every store", () => {
    for (const answer of [waits(3n, 2), acquired(3n), waits(2n, 1)]) {
      expect([false, true].map((later) => isLinearizable(history(answer), later))).toEqual([false, false])
    }
    expect([false, true].map((later) => isLinearizable(history(waits(3n, 0), 1), later))).toEqual([false, false])
  })
})
