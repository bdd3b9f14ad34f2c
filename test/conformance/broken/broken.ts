/**
 * Backings with one fault each, made from the memory backing. Each names the case that is meant to fail on it.
 */
import { Duration, Effect, Layer, Stream } from "effect"
import type { Acquired, Waiting } from "../../../src/core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken, MemoryBacking } from "../../../src/index.ts"
import type { BackingSuiteOptions } from "../../../src/testing/cases.ts"

type Backing = DistributedSemaphoreBacking

export interface Broken {
  readonly fault: string
  /** The rule and the name of the case that is meant to fail. */
  readonly meant: string
  readonly options: BackingSuiteOptions
}

export const brokenLayer = (
  meant: string,
  fault: string,
  layer: BackingSuiteOptions["layer"],
  options: Partial<BackingSuiteOptions> = {}
): Broken => ({
  fault,
  meant,
  options: {
    layer,
    capabilities: ["queue", "push", "inspect", "partialRelease"],
    instances: 1,
    virtualTime: true,
    ...options
  }
})

export const broken = (
  meant: string,
  fault: string,
  alter: (memory: Backing) => Partial<Backing>,
  options: Partial<BackingSuiteOptions> = {}
): Broken => {
  const layer = Layer.effect(
    DistributedSemaphoreBacking,
    Effect.map(DistributedSemaphoreBacking, (memory) => {
      const altered = alter(memory)
      return { ...memory, ...altered.refresh ? { refreshAll: undefined } : {}, ...altered }
    })
  )
  return brokenLayer(meant, fault, Layer.provide(layer, MemoryBacking.layer), options)
}

const look = (memory: Backing, key: string) => Effect.orDie(memory.inspect!(key))
export const holdersOf = (memory: Backing, key: string) => Effect.map(look(memory, key), ({ holders }) => holders)
export const lineOf = (memory: Backing, key: string) => Effect.map(look(memory, key), ({ line }) => line)
export const holdOf = (memory: Backing, key: string, id: string) =>
  Effect.map(holdersOf(memory, key), (holders) => holders.find(({ identifier }) => identifier === id))
export const sum = (entries: ReadonlyArray<{ readonly permits: number }>) =>
  entries.reduce((total, { permits }) => total + permits, 0)
export const acquired = (token: bigint): Acquired => ({ _tag: "Acquired", fencingToken: FencingToken(token) })
export const isAcquired = (answer: unknown): answer is Acquired =>
  typeof answer === "object" && answer !== null && "_tag" in answer && answer._tag === "Acquired"

/** Changes every token in an answer. */
export const withTokens = (memory: Backing, change: (token: bigint) => bigint): Partial<Backing> => {
  const changed = <A extends boolean | Acquired | Waiting>(answer: A): A =>
    typeof answer === "object" ? { ...answer, fencingToken: FencingToken(change(answer.fencingToken!)) } : answer
  return {
    tryAcquire: (...args) => Effect.map(memory.tryAcquire(...args), changed),
    refresh: (...args) => Effect.map(memory.refresh(...args), changed),
    inspect: (key) =>
      Effect.map(memory.inspect!(key), ({ holders, line, ...counts }) => ({
        ...counts,
        holders: holders.map((one) => ({ ...one, fencingToken: FencingToken(change(one.fencingToken)) })),
        line: line.map((one) => ({ ...one, fencingToken: FencingToken(change(one.fencingToken!)) }))
      }))
  }
}

/** Changes every identifier. */
export const withNames = (memory: Backing, change: (key: string, id: string) => string): Partial<Backing> => ({
  tryAcquire: (key, id, ...rest) => memory.tryAcquire(key, change(key, id), ...rest),
  refresh: (key, id, ...rest) => memory.refresh(key, change(key, id), ...rest),
  release: (key, id, ...rest) => memory.release(key, change(key, id), ...rest)
})

/** Changes every ttl. */
export const withTtl = (memory: Backing, change: (ttl: Duration.Duration) => Duration.Duration): Partial<Backing> => ({
  tryAcquire: (key, id, ttl, ...rest) => memory.tryAcquire(key, id, change(ttl), ...rest),
  refresh: (key, id, ttl, ...rest) => memory.refresh(key, id, change(ttl), ...rest)
})

/** Expires holds by a clock of the caller's, when `isOver(hold, now, ttl of the caller)`. */
export const withExpiry = (
  memory: Backing,
  clock: Effect.Effect<number>,
  isOver: (hold: { readonly since: number; readonly ttl: number }, now: number, ttl: number) => boolean
): Partial<Backing> => {
  const holds = new Map<string, Map<string, { readonly since: number; readonly ttl: number }>>()
  const forget = (key: string, ttl: Duration.Duration) =>
    Effect.gen(function*() {
      const now = yield* clock
      const ofKey = holds.get(key) ?? new Map()
      holds.set(key, ofKey)
      for (const [id, hold] of ofKey) {
        if (!isOver(hold, now, Duration.toMillis(ttl))) continue
        ofKey.delete(id)
        yield* memory.release(key, id, Number.MAX_SAFE_INTEGER)
      }
      return (id: string) => ofKey.set(id, { since: now, ttl: Duration.toMillis(ttl) })
    })
  const long = Duration.days(1)
  return {
    tryAcquire: (key, id, ttl, ...rest) =>
      Effect.gen(function*() {
        const remember = yield* forget(key, ttl)
        const answer = yield* memory.tryAcquire(key, id, ttl, ...rest)
        if (isAcquired(answer)) {
          remember(id)
          yield* memory.refresh(key, id, long, 1, 1)
        }
        return answer
      }),
    refresh: (key, id, ttl, ...rest) =>
      Effect.gen(function*() {
        const remember = yield* forget(key, ttl)
        const answer = yield* memory.refresh(key, id, long, ...rest)
        if (isAcquired(answer)) remember(id)
        return answer
      }),
    getCount: (key, ttl) => Effect.andThen(forget(key, ttl), memory.getCount(key, ttl)),
    inspect: (key) => Effect.andThen(forget(key, long), memory.inspect!(key))
  }
}

/** Handles every request that does not acquire at once by `otherwise`. */
export const unlessAcquired = (
  memory: Backing,
  otherwise: (...args: Parameters<Backing["tryAcquire"]>) => ReturnType<Backing["tryAcquire"]>
): Partial<Backing> => ({
  tryAcquire: (key, id, ttl, limit, permits, options) =>
    Effect.flatMap(
      memory.tryAcquire(key, id, ttl, limit, permits),
      (answer) => isAcquired(answer) ? Effect.succeed(answer) : otherwise(key, id, ttl, limit, permits, options)
    )
})

/** Changes what a subscription emits after its first signal. */
export const withSignals = (
  memory: Backing,
  change: (signals: Stream.Stream<void | FencingToken>, key: string) => Stream.Stream<void | FencingToken>
): Partial<Backing> => ({
  onPermitsReleased: (key) =>
    Stream.concat(
      Stream.take(memory.onPermitsReleased!(key), 1),
      change(Stream.drop(memory.onPermitsReleased!(key), 1), key)
    )
})
