/** Whatever is asked, in whatever order, Redis answers as memory does. Time stands still: expiry is for other tests. */
import { expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Schema } from "effect"
import { inject } from "vitest"
import { DistributedSemaphoreBacking, MemoryBacking, RedisBacking } from "../../src/index.ts"
import { connect } from "../utils/redis.ts"

const Steps = Schema.Array(Schema.Struct({
  operation: Schema.Literals(["tryAcquire", "queue", "queue", "release", "refresh"]),
  id: Schema.Literals(["a", "b", "c", "d", "e"]),
  permits: Schema.Literals([1, 2, 3, 4]),
  limit: Schema.Literals([4, 4, 4, 6])
})).check(Schema.isMaxLength(40))

const ttl = Duration.minutes(1)
let runs = 0

/** An answer without what differs between stores: the values of tokens, which only have to grow alike. */
const play = (backing: DistributedSemaphoreBacking, key: string, steps: typeof Steps.Type) =>
  Effect.gen(function*() {
    const tokens: Array<bigint> = []
    const rankOf = (token: bigint) => {
      if (!tokens.includes(token)) tokens.push(token)
      return tokens.toSorted((x, y) => x < y ? -1 : 1).indexOf(token)
    }
    const answers: Array<unknown> = []
    for (const { id, limit, operation, permits } of steps) {
      const wanted = Math.min(permits, limit)
      const answer = operation === "release"
        ? yield* backing.release(key, id, wanted)
        : operation === "refresh"
        ? yield* backing.refresh(key, id, ttl, limit, wanted)
        : yield* backing.tryAcquire(key, id, ttl, limit, wanted, { queue: operation === "queue" })
      const { holders, line } = yield* backing.inspect!(key)
      answers.push([
        typeof answer !== "object" ? answer : answer._tag === "Waiting" ? answer.position : rankOf(answer.fencingToken),
        yield* backing.getCount(key, ttl),
        holders.map((hold) => [hold.identifier, hold.permits, rankOf(hold.fencingToken)]),
        line.map((place) => [place.identifier, place.permits])
      ])
    }
    return answers
  })

it.layer(Layer.effectContext(Effect.gen(function*() {
  const redis = yield* connect(inject("redisUrl"))
  const memory = yield* Layer.build(MemoryBacking.layer)
  const stored = yield* Layer.build(RedisBacking.layer(redis))
  return Context.make(Both, [
    Context.get(memory, DistributedSemaphoreBacking),
    Context.get(stored, DistributedSemaphoreBacking)
  ])
})))((it) => {
  it.effect.prop("for 1000 random sequences", { steps: Steps }, ({ steps }) =>
    Effect.gen(function*() {
      const [memory, redis] = yield* Both
      const key = `against-memory-${process.pid}-${runs++}`
      expect(yield* play(redis, key, steps)).toEqual(yield* play(memory, key, steps))
    }), { arbitrary: { runs: 1000 } })
})

class Both
  extends Context.Service<Both, readonly [DistributedSemaphoreBacking, DistributedSemaphoreBacking]>()("Both")
{}
