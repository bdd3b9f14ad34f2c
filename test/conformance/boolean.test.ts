/** A backing as 0.0.11 documents it: five members and boolean answers. The suite tests only what it promises. */
import { Effect, Layer, PubSub, Stream } from "effect"
import { DistributedSemaphoreBacking, MemoryBacking } from "../../src/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import { runs } from "./runs.ts"

const booleans = Layer.effect(
  DistributedSemaphoreBacking,
  Effect.gen(function*() {
    const memory = yield* DistributedSemaphoreBacking
    const releases = yield* PubSub.sliding<string>(16)
    return DistributedSemaphoreBacking.of({
      tryAcquire: (key, id, ttl, limit, permits) =>
        Effect.map(memory.tryAcquire(key, id, ttl, limit, permits), (answer) => answer !== false),
      release: (key, id) =>
        Effect.tap(memory.release(key, id, Number.MAX_SAFE_INTEGER), () => PubSub.publish(releases, key)),
      refresh: (key, id, ttl, limit, permits) =>
        Effect.map(memory.refresh(key, id, ttl, limit, permits), (answer) => answer !== false),
      getCount: memory.getCount,
      onPermitsReleased: (key) =>
        Stream.fromPubSub(releases).pipe(Stream.filter((released) => released === key), Stream.map(() => undefined))
    })
  })
).pipe(Layer.provide(MemoryBacking.layer))

backingSuite("a backing of booleans", {
  layer: booleans,
  capabilities: ["push"],
  instances: 1,
  virtualTime: true,
  ...runs
})
