/**
 * The backing under test, as a case sees it: several new instances, keys that nobody has used, and time that the case can let
 * pass.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { DistributedSemaphoreBacking } from "../../core/Backing.ts"
import type { ResolvedOptions } from "../Options.ts"
import { fail } from "./assert.ts"
import type { Grant, Listening } from "./listening.ts"
import * as TheListening from "./listening.ts"
import type { SemaphoreUnderTest } from "./semaphore.ts"
import * as TheSemaphore from "./semaphore.ts"

export interface Subject {
  readonly options: ResolvedOptions
  /** Separate instances of the layer, like processes that share a store. */
  readonly processes: ReadonlyArray<DistributedSemaphoreBacking>
  /** Returns the process of a contender. Each new contender gets the next process in turn. */
  readonly processOf: (id: string) => DistributedSemaphoreBacking
  /** A key that nobody has used. */
  readonly freshKey: () => string
  /** A semaphore of a fresh key, unless one is given. */
  readonly semaphore: (limit: number, key?: string) => SemaphoreUnderTest
  /** A ttl that is over soon. */
  readonly short: Duration.Duration
  /** A ttl that does not end while the case runs. */
  readonly long: Duration.Duration
  /** Lets time pass. */
  readonly pass: (time: Duration.Duration) => Effect.Effect<void>
  /** Waits until a ttl that has begun already is certainly over. */
  readonly expire: (ttl: Duration.Duration) => Effect.Effect<void>
  /** Lets time pass until a condition holds; fails if it does not within 10 seconds. */
  readonly eventually: (
    what: string,
    condition: (() => boolean) | Effect.Effect<boolean, unknown>
  ) => Effect.Effect<void, unknown>
  /** Runs an effect that waits, while time passes; fails if it does not end `within` a time, 10 seconds by default. */
  readonly drive: <A, E>(effect: Effect.Effect<A, E>, within?: Duration.Duration) => Effect.Effect<A, E>
  /**
   * Runs an attempt that proves something only if it is over within its ttl. If the machine was too slow for that, this runs
   * it again with a ttl twice as long.
   */
  readonly inTime: <A, R>(
    attempt: (ttl: Duration.Duration) => Effect.Effect<A, unknown, R>
  ) => Effect.Effect<A, unknown, R>
  /** Subscribes the processes of these contenders, each once, and waits until the subscriptions are established. */
  readonly listen: (key: string, ...ids: ReadonlyArray<string>) => Effect.Effect<Listening, unknown, Scope.Scope>
}

export type { Grant, Listening, SemaphoreUnderTest }

const patience = Duration.seconds(10)

/** The monotonic clock, in nanoseconds. */
export const now: Effect.Effect<bigint> = Clock.clockWith((clock) =>
  Effect.sync(() => clock.monotonicTimeNanosUnsafe())
)

export const make = Effect.fnUntraced(
  function*(options: ResolvedOptions): Effect.fn.Return<Subject, unknown, Scope.Scope> {
    const { virtualTime } = options
    const processes = yield* Effect.forEach(
      Array.from({ length: options.instances }),
      () => Effect.map(Layer.build(Layer.fresh(options.layer)), Context.get(DistributedSemaphoreBacking))
    )

    const homes = new Map<string, DistributedSemaphoreBacking>()
    const processOf = (id: string) => {
      const home = homes.get(id) ?? processes[homes.size % processes.length]!
      homes.set(id, home)
      return home
    }

    const short = options.smallestTtl
    const long = Duration.max(Duration.minutes(1), Duration.times(short, 20))

    const pass = (time: Duration.Duration) => virtualTime ? TestClock.adjust(time) : Effect.sleep(time)

    /** Lets a little time pass. In real time, the longer it has waited since `start`, the longer it waits. */
    const tick = (start: bigint) =>
      virtualTime
        ? TestClock.adjust("10 millis")
        : Effect.flatMap(now, (now) => Effect.sleep(Math.min(50, Math.max(2, Number(now - start) / 20e6))))

    const eventually: Subject["eventually"] = Effect.fnUntraced(function*(what, condition) {
      const start = yield* now
      // What is ready runs first, before any time passes.
      yield* pass(Duration.zero)
      while (true) {
        if (yield* typeof condition === "function" ? Effect.sync(condition) : condition) return
        if ((yield* now) - start > Duration.toNanosUnsafe(patience)) {
          return fail(`not within ${Duration.format(patience)}: ${what}`)
        }
        yield* tick(start)
      }
    })

    const drive = <A, E>(effect: Effect.Effect<A, E>, within = patience): Effect.Effect<A, E> =>
      Effect.scoped(Effect.gen(function*() {
        const start = yield* now
        const fiber = yield* Effect.forkScoped(effect, { startImmediately: true })
        yield* pass(Duration.zero)
        while (fiber.pollUnsafe() === undefined) {
          if ((yield* now) - start > Duration.toNanosUnsafe(within)) {
            return fail(`did not end within ${Duration.format(within)}`)
          }
          yield* tick(start)
        }
        return yield* Fiber.join(fiber)
      }))

    const inTime: Subject["inTime"] = <A, R>(attempt: (ttl: Duration.Duration) => Effect.Effect<A, unknown, R>) => {
      const tryWith = (ttl: Duration.Duration): Effect.Effect<A, unknown, R> =>
        Effect.gen(function*() {
          const start = yield* now
          const exit = yield* Effect.exit(attempt(ttl))
          const passed = (yield* now) - start
          return yield* passed < Duration.toNanosUnsafe(ttl) ? exit : tryWith(Duration.times(ttl, 2))
        })
      return tryWith(short)
    }

    const freshKey = () => `key-${crypto.randomUUID()}`

    return {
      options,
      processes,
      processOf,
      freshKey,
      semaphore: (limit, key = freshKey()) => TheSemaphore.make({ options, processes, processOf, long }, key, limit),
      short,
      long,
      pass,
      expire: (ttl) => pass(Duration.sum(Duration.sum(ttl, options.granularity), Duration.millis(1))),
      eventually,
      drive,
      inTime,
      listen: (key, ...ids) => TheListening.make({ processOf, eventually, pass }, key, ids)
    }
  }
)
