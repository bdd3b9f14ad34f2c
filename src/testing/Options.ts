/**
 * What the suite needs to know of a backing.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { DistributedSemaphoreBacking } from "../core/Backing.ts"

/**
 * What a backing can do beyond boolean answers. The suite tests only what is declared, so do not rely on what is not.
 *
 * **Details**
 *
 * - `queue`: keeps a line and grants, and answers `Waiting` with the token of the place (B2, B3). It implies `tokens`.
 * - `tokens`: answers `Acquired` with a fencing token (B11).
 * - `push`: `onPermitsReleased` emits the tokens of waiters that were granted (B7); without `queue`, it emits `undefined` when
 *   permits were released.
 * - `inspect`: has the member `inspect`.
 * - `partialRelease`: can give up a part of a hold (B4). Without it, a release always frees the whole hold.
 * - `operators`: has what operators need: `onRevoked` (B13), `onChanged` and `keys`, and its answers name a smaller limit that counts. It
 *   implies `inspect`.
 *
 * @category models
 * @since 0.1.0
 */
export type Capability = "queue" | "tokens" | "push" | "inspect" | "partialRelease" | "operators"

/**
 * What a case may require: a capability, or an option of the suite that reaches the store behind the backing.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirement = Capability | "footprint" | "restart"

/**
 * The backing to test, and what the suite must know of it.
 *
 * @category options
 * @since 0.1.0
 */
export interface BackingSuiteOptions {
  /** The backing. Each case builds it anew, `instances` times, like processes that share a store. */
  readonly layer: Layer.Layer<DistributedSemaphoreBacking, unknown>
  /** None by default: then the suite tests boolean answers only. */
  readonly capabilities?: ReadonlyArray<Capability> | undefined
  /** The shortest ttl that the store keeps exactly, 100 milliseconds by default. Cases let leases of this length expire. */
  readonly smallestTtl?: Duration.Input | undefined
  /**
   * How much later than its ttl a lease may expire, 10 milliseconds by default, 0 with `virtualTime`; it must never expire earlier.
   * `inspect` may show the time left as coarsely.
   */
  readonly granularity?: Duration.Input | undefined
  /**
   * Whether an acquire or a refresh may say where its contender stands at another moment than that at which it takes effect:
   * `false` by default. Both moments are between the call and its answer. Then an answer may tell of a grant, or of a position,
   * that another call only led to after the effect.
   */
  readonly standsLater?: boolean | undefined
  /**
   * Answers something else once the store has let leases last longer than `granularity` allows, as etcd does when it elects a leader.
   * A concurrent history that was recorded meanwhile is recorded again. By default nothing is asked.
   */
  readonly epoch?: Effect.Effect<unknown, unknown> | undefined
  /** How many instances of the layer a case uses, 3 by default. 1 for a store that lives inside the layer. */
  readonly instances?: number | undefined
  /** Whether the store's clock is Effect's `Clock`: the suite then runs in virtual time. `false` by default. */
  readonly virtualTime?: boolean | undefined
  /** How many entries (keys, rows) the store has for the semaphore of a key. Required by the cases of C5 that count them. */
  readonly footprint?: ((key: string) => Effect.Effect<number, unknown>) | undefined
  /**
   * Restarts the store, and ends when it answers again. The store may lose its holds by that. Required by the cases that
   * cut connections.
   */
  readonly restart?: Effect.Effect<void, unknown> | undefined
  /** How many random sequences of operations to try, 200 by default. */
  readonly sequences?: number | undefined
  /** How many concurrent histories to record and check, 50 by default. */
  readonly histories?: number | undefined
  /** What a failed property printed after `Replay:`, to run the same inputs again. */
  readonly replay?: string | undefined
}

export interface ResolvedOptions {
  readonly layer: Layer.Layer<DistributedSemaphoreBacking, unknown>
  readonly has: (requirement: Requirement) => boolean
  readonly smallestTtl: Duration.Duration
  readonly granularity: Duration.Duration
  readonly standsLater: boolean
  readonly epoch: Effect.Effect<unknown, unknown>
  readonly instances: number
  readonly virtualTime: boolean
  readonly footprint: (key: string) => Effect.Effect<number, unknown>
  readonly restart: Effect.Effect<void, unknown>
  readonly sequences: number
  readonly histories: number
  readonly replay: string | undefined
}

export const resolve = (options: BackingSuiteOptions): ResolvedOptions => {
  const can = (capability: Capability) => options.capabilities?.includes(capability) ?? false
  const has = (requirement: Requirement) =>
    requirement === "footprint" || requirement === "restart"
      ? options[requirement] !== undefined
      : can(requirement) || requirement === "tokens" && can("queue") || requirement === "inspect" && can("operators")
  return {
    layer: options.layer,
    has,
    smallestTtl: Duration.fromInputUnsafe(options.smallestTtl ?? "100 millis"),
    granularity: Duration.fromInputUnsafe(options.granularity ?? (options.virtualTime ? 0 : "10 millis")),
    standsLater: options.standsLater ?? false,
    epoch: options.epoch ?? Effect.void,
    instances: options.instances ?? 3,
    virtualTime: options.virtualTime ?? false,
    footprint: (key) => options.footprint!(key),
    restart: Effect.suspend(() => options.restart!),
    sequences: options.sequences ?? 200,
    histories: options.histories ?? 50,
    replay: options.replay
  }
}
