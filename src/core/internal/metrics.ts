/** The metrics of a process's acquisitions. docs/operating.md says what each one means, and docs/grafana-dashboard.json draws them. */
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type { LockLostError } from "../Errors.ts"

/** Why a hold was lost: `"failed"` if the retry policy ended while the lease lasted. */
export type LossReason = LockLostError["reason"] | "failed"

/** Seconds, from one round trip of a fast store to a long line. */
const boundaries = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

const seriesOf = (attributes: Metric.Metric.AttributeSet) => {
  const counter = (name: string, description: string, more?: Metric.Metric.AttributeSet) =>
    Metric.counter(name, { description, attributes: { ...attributes, ...more }, incremental: true })
  const gauge = (name: string, description: string) => Metric.gauge(name, { description, attributes })
  const lost = (reason: LossReason) =>
    counter("distributed_semaphore_permits_lost_total", "Permits whose lease was lost while their holder worked", {
      reason
    })
  return {
    acquired: counter("distributed_semaphore_permits_acquired_total", "Permits that were acquired"),
    released: counter("distributed_semaphore_permits_released_total", "Permits that their holder gave back"),
    lost: {
      expired: lost("expired"),
      revoked: lost("revoked"),
      unreachable: lost("unreachable"),
      failed: lost("failed")
    },
    refused: counter(
      "distributed_semaphore_permits_refused_total",
      "Permits that were not acquired, because they were not free at once, a retry policy ended, or they were held no more"
    ),
    held: gauge("distributed_semaphore_permits_held", "Permits that this process holds"),
    waiters: gauge("distributed_semaphore_waiters", "Acquisitions of this process that wait for permits"),
    acquireTime: Metric.histogram("distributed_semaphore_acquire_seconds", {
      description: "Seconds from asking for permits to holding them",
      attributes: { ...attributes, unit: "seconds" },
      boundaries
    }),
    refreshFailures: counter(
      "distributed_semaphore_refresh_failures_total",
      "Refreshes of holds and places that the store failed or did not answer"
    )
  }
}

type Series = ReturnType<typeof seriesOf>

const untagged = seriesOf({})

/** The metrics in one registry, with the attributes of the fibers that acquire. */
export class Metrics {
  private readonly series: Series
  private readonly registry: Metric.MetricRegistry
  private readonly attributes: Metric.Metric.AttributeSet
  /** It has no more than the metrics need: a fiber's whole context would keep the fiber's leases in memory. */
  private readonly context: Context.Context<never>

  constructor(series: Series, registry: Metric.MetricRegistry, attributes: Metric.Metric.AttributeSet) {
    this.series = series
    this.registry = registry
    this.attributes = attributes
    this.context = Context.make(Metric.MetricRegistry, registry).pipe(
      Context.add(Metric.CurrentMetricAttributes, attributes)
    ) as Context.Context<never>
    const { acquired, held, lost, refreshFailures, refused, released, waiters } = series
    const ended = [released, ...Object.values(lost)]
    // Every counter and gauge exists from the start: one that appears with its first event shows no increase for it.
    for (const metric of [acquired, ...ended, refused, waiters, refreshFailures]) metric.valueUnsafe(this.context)
    const count = (counter: Metric.Counter<number>) => counter.valueUnsafe(this.context).count
    const get = () => ({ value: ended.reduce((value, counter) => value - count(counter), count(acquired)) })
    Metric.registerUnsafe(held, this.context, { get, update: () => {}, modify: () => {} })
  }

  areOf(registry: Metric.MetricRegistry, attributes: Metric.Metric.AttributeSet): boolean {
    return this.registry === registry && this.attributes === attributes
  }

  acquired(permits: number, millis: number): void {
    this.series.acquired.updateUnsafe(permits, this.context)
    this.series.acquireTime.updateUnsafe(millis / 1000, this.context)
  }

  released(permits: number): void {
    this.series.released.updateUnsafe(permits, this.context)
  }

  lost(permits: number, reason: LossReason): void {
    this.series.lost[reason].updateUnsafe(permits, this.context)
  }

  refused(permits: number): void {
    this.series.refused.updateUnsafe(permits, this.context)
  }

  waits(): void {
    this.series.waiters.modifyUnsafe(1, this.context)
  }

  waited(): void {
    this.series.waiters.modifyUnsafe(-1, this.context)
  }

  refreshFailed(): void {
    this.series.refreshFailures.updateUnsafe(1, this.context)
  }
}

/** Returns a function from a fiber that acquires to its metrics: the fiber's context has the registry, and may add attributes. */
export const make = (key: string | undefined): (fiber: Fiber.Fiber<unknown, unknown>) => Metrics => {
  const series = key === undefined ? untagged : seriesOf({ key })
  let last: Metrics | undefined
  return (fiber) => {
    const registry = fiber.getRef(Metric.MetricRegistry)
    const attributes = fiber.getRef(Metric.CurrentMetricAttributes)
    return last?.areOf(registry, attributes) ? last : last = new Metrics(series, registry, attributes)
  }
}
