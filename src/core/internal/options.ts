/** Applies defaults and refuses misuse: misuse is a defect, and the store is not asked. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { SemaphoreBackingError } from "../Errors.ts"
import type { AcquireOptions, DistributedSemaphoreConfig } from "../Options.ts"

export interface ResolvedConfig {
  readonly key: string
  readonly limit: number
  readonly ttl: Duration.Duration
  readonly refreshInterval: Duration.Duration
  /**
   * How long a holder trusts its lease: the ttl minus a margin for late timers and for clocks that run at different speeds. The
   * margin is a twentieth of the ttl, but at most half of what is left of the ttl when a refresh falls due.
   */
  readonly leaseMillis: number
  /** How long one attempt at an operation of the store may last. */
  readonly attemptLimit: Duration.Duration
  readonly acquireRetryInterval: Duration.Duration
  readonly acquireRetryPolicy: Schedule.Schedule<unknown> | undefined
  readonly backingFailureRetryPolicy: Schedule.Schedule<unknown, SemaphoreBackingError>
}

export interface Request {
  readonly identifier: string
  readonly permits: number
  readonly acquiredExternally: boolean
}

export const refuse = (option: string, value: unknown, allowed: string): never => {
  throw new Cause.IllegalArgumentError(`${option} is ${show(value)}, but must be ${allowed}`)
}

const show = (value: unknown): string => Duration.isDuration(value) ? Duration.format(value) : Formatter.format(value)

const isName = (value: unknown): value is string => typeof value === "string" && value.length > 0

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value > 0

export const positiveDuration = (option: string, input: Duration.Input): Duration.Duration => {
  const duration = Option.getOrUndefined(Duration.fromInput(input))
  return duration !== undefined && Duration.isFinite(duration) && Duration.isPositive(duration)
    ? duration
    : refuse(option, input, "a positive, finite duration")
}

const leaseMillis = (ttl: number, refreshInterval: number) => ttl - Math.min(ttl / 20, (ttl - refreshInterval) / 2)

/** With the default `refreshInterval`, two attempts fit into the rest of a lease when its refresh falls due. */
const attemptLimit = (ttl: Duration.Duration) => Duration.min(Duration.divideUnsafe(ttl, 4), Duration.seconds(5))

const defaultFailureRetryPolicy = (ttl: Duration.Duration): Schedule.Schedule<unknown> =>
  Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(
    Schedule.jittered,
    Schedule.upTo({ duration: ttl })
  )

export const resolveConfig = (key: string, config: DistributedSemaphoreConfig): ResolvedConfig => {
  if (!isName(key)) refuse("key", key, "a non-empty string")
  const limit = config.limit ?? 1
  if (!isCount(limit)) refuse("limit", limit, "a positive integer")
  const ttl = positiveDuration("ttl", config.ttl ?? "30 seconds")
  if (Duration.toMillis(ttl) < 1) refuse("ttl", config.ttl, "at least a millisecond")
  const refreshInterval = positiveDuration("refreshInterval", config.refreshInterval ?? Duration.divideUnsafe(ttl, 3))
  if (!Duration.isLessThan(refreshInterval, ttl)) {
    refuse("refreshInterval", config.refreshInterval, `below the ttl of ${show(ttl)}`)
  }
  return {
    key,
    limit,
    ttl,
    refreshInterval,
    leaseMillis: leaseMillis(Duration.toMillis(ttl), Duration.toMillis(refreshInterval)),
    attemptLimit: attemptLimit(ttl),
    acquireRetryInterval: positiveDuration("acquireRetryInterval", config.acquireRetryInterval ?? "100 millis"),
    acquireRetryPolicy: config.acquireRetryPolicy,
    backingFailureRetryPolicy: config.backingFailureRetryPolicy ?? defaultFailureRetryPolicy(ttl)
  }
}

export const checkIdentifier = (identifier: string): void => {
  if (!isName(identifier)) refuse("identifier", identifier, "a non-empty string")
}

export const resolveRequest = (limit: number, permits: number, options: AcquireOptions = {}): Request => {
  if (!isCount(permits)) refuse("permits", permits, "a positive integer")
  if (permits > limit) refuse("permits", permits, `at most the limit of ${limit}`)
  const { acquiredExternally = false, identifier } = options
  if (acquiredExternally && identifier === undefined) {
    refuse("identifier", identifier, "given with acquiredExternally: it names the hold")
  }
  if (identifier !== undefined) checkIdentifier(identifier)
  return { identifier: identifier ?? crypto.randomUUID(), permits, acquiredExternally }
}
