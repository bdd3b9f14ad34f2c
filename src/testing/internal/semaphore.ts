/** Operations on one key, each in the process of its contender. Each fails unless the answer is the one that its name says. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SemaphoreState, Waiting } from "../../core/Backing.ts"
import { equal, fail, show } from "./assert.ts"
import type { Subject } from "./subject.ts"

export interface Place extends Waiting {
  readonly token: bigint
}

export interface SemaphoreUnderTest {
  readonly key: string
  /** Asks without queue, and must acquire. Returns the token, if the backing has tokens. */
  readonly acquires: (
    id: string,
    permits: number,
    ttl?: Duration.Duration
  ) => Effect.Effect<bigint | undefined, unknown>
  /** Asks without queue, and must be refused. */
  readonly isRefused: (id: string, permits: number, ttl?: Duration.Duration) => Effect.Effect<void, unknown>
  /** Asks with queue, and must get a place. */
  readonly waits: (id: string, permits: number, ttl?: Duration.Duration) => Effect.Effect<Place, unknown>
  /** Releases, and returns how many permits were freed. */
  readonly releases: (id: string, permits: number, token?: bigint) => Effect.Effect<number, unknown>
  /** Refreshes, and must have a hold. Returns the token, if the backing has tokens. */
  readonly holds: (
    id: string,
    permits: number,
    ttl?: Duration.Duration,
    token?: bigint
  ) => Effect.Effect<bigint | undefined, unknown>
  /** Refreshes, and must have a place. */
  readonly stillWaits: (
    id: string,
    permits: number,
    ttl?: Duration.Duration,
    token?: bigint
  ) => Effect.Effect<Place, unknown>
  /** Refreshes, and must have neither. */
  readonly isGone: (
    id: string,
    permits: number,
    ttl?: Duration.Duration,
    token?: bigint
  ) => Effect.Effect<void, unknown>
  readonly count: Effect.Effect<number, unknown>
  readonly inspect: Effect.Effect<SemaphoreState, unknown>
}

const named = (id: string) => id.length > 40 ? `${show(id.slice(0, 40))}…` : show(id)

export const make = (
  { long, options, processes, processOf }: Pick<Subject, "long" | "options" | "processes" | "processOf">,
  key: string,
  limit: number
): SemaphoreUnderTest => {
  const ask = (id: string, permits: number, ttl: Duration.Duration, queue: boolean) =>
    processOf(id).tryAcquire(key, id, ttl, limit, permits, { queue })
  const refresh = (id: string, permits: number, ttl: Duration.Duration, token: bigint | undefined) =>
    processOf(id).refresh(key, id, ttl, limit, permits, { fencingToken: token as never })

  type Answer = Effect.Success<ReturnType<typeof ask>>

  const tokenOfHold = (answer: Answer, what: string) => {
    if (answer === true && !options.has("tokens")) return undefined
    if (typeof answer === "object" && answer._tag === "Acquired") return answer.fencingToken
    return fail(`${what}: expected a hold${options.has("tokens") ? " with a token" : ""}, got ${show(answer)}`)
  }
  const place = (answer: Answer, what: string): Place =>
    typeof answer === "object" && answer._tag === "Waiting" && answer.fencingToken !== undefined
      ? { ...answer, token: answer.fencingToken }
      : fail(`${what}: expected a place with its number, got ${show(answer)}`)

  const asking = (id: string, permits: number, queue: string) =>
    `${named(id)} asks for ${permits} of ${limit}, ${queue} queue`
  const refreshing = (id: string) => `${named(id)} refreshes`

  return {
    key,
    acquires: (id, permits, ttl = long) =>
      Effect.map(ask(id, permits, ttl, false), (answer) => tokenOfHold(answer, asking(id, permits, "without"))),
    isRefused: (id, permits, ttl = long) =>
      Effect.map(ask(id, permits, ttl, false), (answer) => equal(answer, false, asking(id, permits, "without"))),
    waits: (id, permits, ttl = long) =>
      Effect.map(ask(id, permits, ttl, true), (answer) => place(answer, asking(id, permits, "with"))),
    releases: (id, permits, token) => processOf(id).release(key, id, permits, { fencingToken: token as never }),
    holds: (id, permits, ttl = long, token) =>
      Effect.map(refresh(id, permits, ttl, token), (answer) => tokenOfHold(answer, refreshing(id))),
    stillWaits: (id, permits, ttl = long, token) =>
      Effect.map(refresh(id, permits, ttl, token), (answer) => place(answer, refreshing(id))),
    isGone: (id, permits, ttl = long, token) =>
      Effect.map(refresh(id, permits, ttl, token), (answer) => equal(answer, false, refreshing(id))),
    count: Effect.suspend(() => processes.at(-1)!.getCount(key, long)),
    inspect: Effect.suspend(() => processes.at(-1)!.inspect!(key))
  }
}
