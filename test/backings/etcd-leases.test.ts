/** Renewals that a deposed leader answers. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Leases from "../../src/backings/etcd/leases.ts"
import type { Store } from "../../src/backings/etcd/store.ts"

/** Answers renewals in these terms, one after the other; then there is no such lease. */
const answering = (...terms: ReadonlyArray<bigint>) => {
  const left = [...terms]
  const store: Store = {
    txn: () => Effect.die("unused"),
    watch: () => Effect.die("unused"),
    secondsLeft: () => Effect.die("unused"),
    grant: () => Effect.void,
    revoke: () => Effect.void,
    keepAlive: () => Effect.sync(() => left.length > 0 ? { term: left.shift()! } : undefined)
  }
  return { left, store }
}

const request = (term: string) => Effect.succeed({ header: { raft_term: term } })

describe("a request on a lease that is in use again", () => {
  const useAgain = Effect.fnUntraced(function*(store: Store, term: string) {
    const leases = yield* Leases.make(store)
    const lease = leases.take(10)
    yield* leases.use(lease, () => request("1"))
    return yield* leases.use(lease, () => request(term))
  })

  it.live("counts if it was renewed in the same term", () =>
    Effect.gen(function*() {
      const { left, store } = answering(5n, 5n)
      expect(yield* useAgain(store, "5")).toBeDefined()
      expect(left).toEqual([5n])
    }))

  it.live("is renewed once more if that was in an earlier term", () =>
    Effect.gen(function*() {
      const { left, store } = answering(4n, 4n, 5n, 5n)
      expect(yield* useAgain(store, "5")).toBeDefined()
      expect(left).toEqual([5n])
    }))

  it.live("does not count if the leader of this term knows no such lease", () =>
    Effect.gen(function*() {
      const { store } = answering(4n)
      expect(yield* useAgain(store, "5")).toBeUndefined()
    }))
})
