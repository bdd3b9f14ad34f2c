/** The clocks of one process. They drift; the wall clock jumps; the monotonic clock stops in a suspended machine. */
import { Clock, Duration, Effect } from "effect"
import type { Process } from "./process.ts"
import type { Event, World } from "./world.ts"

interface Timer {
  /** When it rings, by the monotonic clock. */
  readonly due: number
  readonly ring: () => void
  event: Event | undefined
}

const nanos = (millis: number) => BigInt(Math.round(millis * 1e6))

export class ProcessClock implements Clock.Clock {
  readonly timers = new Set<Timer>()
  private readonly world: World
  private readonly process: Process
  /** Local milliseconds per true one. */
  private rate: number
  private wall: number
  /** A moment in true time, and what the monotonic clock showed then. */
  private base: { readonly time: number; readonly monotonic: number }
  private suspended = false
  leaps = 0

  constructor(world: World, process: Process, { rate, start, wall }: { rate: number; start: number; wall: number }) {
    this.world = world
    this.process = process
    this.rate = rate
    this.wall = wall
    this.base = { time: 0, monotonic: start }
  }

  /** The milliseconds of the monotonic clock. */
  get millis(): number {
    const { base: { monotonic, time }, rate, suspended, world } = this
    return suspended ? monotonic : monotonic + (world.now - time) * rate
  }

  /** Sets the wall clock forward, or back, by so many milliseconds. */
  jump(millis: number): void {
    this.wall += millis
  }

  /** Makes the monotonic clock leap ahead, unless it stands still: that would hide a part of a suspension. */
  leap(millis: number): void {
    if (this.suspended) return
    this.leaps++
    this.rebase(() => this.base = { ...this.base, monotonic: this.base.monotonic + millis })
  }

  /** Stops the monotonic clock, and timers with it, until `resume`. */
  suspend(): void {
    this.rebase(() => this.suspended = true)
  }

  resume(): void {
    this.rebase(() => this.suspended = false)
  }

  drift(rate: number): void {
    // The wall clock goes on from what it shows.
    this.wall += this.world.now * (this.rate - rate)
    this.rebase(() => this.rate = rate)
  }

  currentTimeMillisUnsafe(): number {
    return this.wall + this.world.now * this.rate
  }

  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())

  currentTimeNanosUnsafe(): bigint {
    return nanos(this.currentTimeMillisUnsafe())
  }

  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())

  monotonicTimeNanosUnsafe(): bigint {
    return nanos(this.millis)
  }

  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    const millis = Duration.toMillis(duration)
    if (millis <= 0) return Effect.yieldNow
    if (!Number.isFinite(millis)) return Effect.never
    return Effect.callback((resume) => {
      // Like Node's timers: whole milliseconds, and never early.
      const timer: Timer = {
        due: this.millis + Math.max(1, Math.ceil(millis)),
        ring: () => resume(Effect.void),
        event: undefined
      }
      this.timers.add(timer)
      this.arm(timer)
      return Effect.sync(() => {
        this.timers.delete(timer)
        if (timer.event !== undefined) timer.event.cancelled = true
      })
    })
  }

  private arm(timer: Timer): void {
    if (this.suspended) return
    const { base: { monotonic, time }, rate } = this
    timer.event = this.world.at(time + (timer.due - monotonic) / rate, this.process, () => {
      this.timers.delete(timer)
      timer.ring()
    })
  }

  private rebase(change: () => void): void {
    this.base = { time: this.world.now, monotonic: this.millis }
    change()
    for (const timer of this.timers) {
      if (timer.event !== undefined) timer.event.cancelled = true
      this.arm(timer)
    }
  }
}
