/** One process: its tasks, its clocks, and what the world does to it. */
import { Clock, Context, Logger, Metric, References, Scheduler } from "effect"
import { Random as EffectRandom } from "effect"
import type { Fiber } from "effect"
import { ProcessClock } from "./clock.ts"
import { Random } from "./random.ts"
import type { World } from "./world.ts"

export interface ProcessPlan {
  readonly name: string
  /** Local milliseconds per true one. */
  readonly rate: number
  /** What its monotonic clock shows at the start. */
  readonly start: number
  readonly wall: number
  /** After this many steps, a fiber gives others their turn. */
  readonly opsBeforeYield: number
}

export class Process {
  readonly name: string
  readonly clock: ProcessClock
  /** The context of everything that this process runs. */
  readonly context: Context.Context<never>
  state: "runs" | "paused" | "dead" = "runs"
  hasDied = false
  /** How many fibers have not ended. */
  fibers = 0
  /** How often it has been paused or suspended, and when that ended last. */
  disturbances = 0
  disturbedUntil = Number.NEGATIVE_INFINITY
  suspendedUntil = Number.NEGATIVE_INFINITY
  private readonly world: World
  private ready: Array<() => void> = []
  private deferred: Array<() => void> = []

  constructor(world: World, seed: string, plan: ProcessPlan) {
    this.world = world
    this.name = plan.name
    this.clock = new ProcessClock(world, this, plan)
    const random = new Random(`${seed} ${plan.name}`)
    this.context = Context.empty().pipe(
      Context.add(Clock.Clock, this.clock),
      Context.add(EffectRandom.Random, {
        nextDoubleUnsafe: () => random.next(),
        nextIntUnsafe: () => random.int(2 ** 32) - 2 ** 31
      }),
      Context.add(Scheduler.MaxOpsBeforeYield, plan.opsBeforeYield),
      Context.add(Metric.FiberRuntimeMetrics, {
        recordFiberStart: () => void this.fibers++,
        recordFiberEnd: () => void this.fibers--
      }),
      Context.add(
        Logger.CurrentLoggers,
        new Set([Logger.make(({ message }) => world.tell(() => `${plan.name} logs: ${String(message)}`))])
      ),
      Context.add(References.MinimumLogLevel, "Debug")
    )
    world.processes.push(this)
  }

  /** Takes a task that the runtime puts off. It runs before time goes on. */
  enqueue(task: () => void): void {
    this.ready.push(task)
  }

  nextTask(): (() => void) | undefined {
    return this.state === "runs" ? this.ready.shift() : undefined
  }

  /** Delivers a timer, an answer or a notification. */
  deliver(run: () => void): void {
    if (this.state === "runs") this.world.within(this, run)
    else this.deferred.push(run)
  }

  /** Stops everything that it runs. */
  pause(): void {
    this.state = "paused"
    this.disturbances++
    this.disturbedUntil = Number.POSITIVE_INFINITY
  }

  /** Puts its machine to sleep: nothing runs, and the monotonic clock stands still. */
  suspend(): void {
    this.clock.suspend()
    this.pause()
  }

  wakeUp(): void {
    this.clock.resume()
    this.suspendedUntil = this.world.now
    this.resume()
  }

  /** Goes on. All that has come meanwhile happens at once. */
  resume(): void {
    const { deferred } = this
    this.deferred = []
    this.state = "runs"
    this.disturbedUntil = this.world.now
    for (const run of deferred) this.deliver(run)
  }

  die(): void {
    this.hasDied = true
    this.pause()
    this.state = "dead"
  }

  interrupt(fiber: Fiber.Fiber<unknown, unknown>): void {
    this.deliver(() => fiber.interruptUnsafe())
  }
}
