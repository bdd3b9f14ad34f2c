/** Defaults, and what is refused: misuse is a defect, and no store is touched. */
import { Cause, Duration, Effect, Formatter, Option, Schedule } from "effect"
import type { SemaphoreBackingError } from "../Errors.ts"
import type { AcquireOptions, DistributedSemaphoreConfig } from "../Options.ts"

export interface ResolvedConfig {
  readonly key: string
  readonly limit: number
  readonly ttl: Duration.Duration
  readonly refreshInterval: Duration.Duration
  /**
   * How long a holder trusts its lease: the ttl less a margin for late timers and clocks that run at different speeds, a
   * twentieth of it, which never takes more than half of the time in which a refresh may still succeed.
   */
  readonly leaseMillis: number
  readonly acquireRetryInterval: Duration.Duration
  readonly acquireRetryPolicy: Option.Option<Schedule.Schedule<unknown>>
  readonly backingFailureRetryPolicy: Schedule.Schedule<unknown, SemaphoreBackingError>
}

export interface Acquisition {
  readonly identifier: string
  readonly permits: number
  readonly acquiredExternally: boolean
}

export const refuse = (option: string, value: unknown, allowed: string): Effect.Effect<never> =>
  Effect.die(new Cause.IllegalArgumentError(`${option} is ${show(value)}, but must be ${allowed}`))

const show = (value: unknown): string => Duration.isDuration(value) ? Duration.format(value) : Formatter.format(value)

const isName = (value: unknown): value is string => typeof value === "string" && value.length > 0

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value > 0

const positiveDuration = Effect.fnUntraced(function*(option: string, input: Duration.Input) {
  const duration = Option.getOrUndefined(Duration.fromInput(input))
  if (duration === undefined || !Duration.isFinite(duration) || !Duration.isPositive(duration)) {
    return yield* refuse(option, input, "a positive, finite duration")
  }
  return duration
})

const leaseMillis = (ttl: number, refreshInterval: number) => ttl - Math.min(ttl / 20, (ttl - refreshInterval) / 2)

const defaultFailureRetryPolicy = (ttl: Duration.Duration): Schedule.Schedule<unknown> =>
  Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(
    Schedule.jittered,
    Schedule.upTo({ duration: ttl })
  )

export const resolveConfig = Effect.fnUntraced(function*(key: string, config: DistributedSemaphoreConfig) {
  if (!isName(key)) return yield* refuse("key", key, "a non-empty string")
  const limit = config.limit ?? 1
  if (!isCount(limit)) return yield* refuse("limit", limit, "a positive integer")
  const ttl = yield* positiveDuration("ttl", config.ttl ?? "30 seconds")
  if (Duration.toMillis(ttl) < 1) return yield* refuse("ttl", config.ttl, "at least a millisecond")
  const refreshInterval = yield* positiveDuration(
    "refreshInterval",
    config.refreshInterval ?? Duration.divideUnsafe(ttl, 3)
  )
  if (!Duration.isLessThan(refreshInterval, ttl)) {
    return yield* refuse("refreshInterval", config.refreshInterval, `below the ttl of ${show(ttl)}`)
  }
  const resolved: ResolvedConfig = {
    key,
    limit,
    ttl,
    refreshInterval,
    leaseMillis: leaseMillis(Duration.toMillis(ttl), Duration.toMillis(refreshInterval)),
    acquireRetryInterval: yield* positiveDuration("acquireRetryInterval", config.acquireRetryInterval ?? "100 millis"),
    acquireRetryPolicy: Option.fromNullishOr(config.acquireRetryPolicy),
    backingFailureRetryPolicy: config.backingFailureRetryPolicy ?? defaultFailureRetryPolicy(ttl)
  }
  return resolved
})

export const resolveAcquisition = Effect.fnUntraced(
  function*(limit: number, permits: number, options: AcquireOptions | undefined) {
    if (!isCount(permits)) return yield* refuse("permits", permits, "a positive integer")
    if (permits > limit) return yield* refuse("permits", permits, `at most the limit of ${limit}`)
    const { acquiredExternally = false, identifier } = options ?? {}
    if (acquiredExternally && identifier === undefined) {
      return yield* refuse("identifier", identifier, "given with acquiredExternally: it names the hold")
    }
    if (identifier !== undefined && !isName(identifier)) {
      return yield* refuse("identifier", identifier, "a non-empty string")
    }
    const acquisition: Acquisition = {
      identifier: identifier ?? crypto.randomUUID(),
      permits,
      acquiredExternally
    }
    return acquisition
  }
)
