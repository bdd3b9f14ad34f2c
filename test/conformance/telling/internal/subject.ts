/**
 * The backing under test, as a case sees it: built anew, several times, with keys that nobody has used, and with a time that
 * the case can let pass.
 */
import { Clock, Context, Duration, Effect, Fiber, Layer, Stream } from "effect"
import type { Scope } from "effect"
import { TestClock } from "effect/testing"
import type { SemaphoreState, Waiting } from "../../../../src/core/Backing.ts"
import { DistributedSemaphoreBacking } from "../../../../src/core/Backing.ts"
import type { ResolvedOptions } from "../Options.ts"
import { equal, fail, isTrue, show } from "./assert.ts"

export interface Subject {
  readonly options: ResolvedOptions
  /** Separate instances of the layer, like processes that share a store. */
  readonly processes: ReadonlyArray<DistributedSemaphoreBacking>
  /** The process of a holder: each new one is in the next process. */
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
  /** Lets a ttl that began in the past end for certain. */
  readonly expire: (ttl: Duration.Duration) => Effect.Effect<void>
  /** Lets time pass until a condition holds; fails if it does not within 10 seconds. */
  readonly eventually: (
    what: string,
    condition: (() => boolean) | Effect.Effect<boolean, unknown>
  ) => Effect.Effect<void, unknown>
  /** Runs an effect that waits, while time passes; fails if it does not end within 10 seconds, or as long as is said. */
  readonly drive: <A, E>(effect: Effect.Effect<A, E>, within?: Duration.Duration) => Effect.Effect<A, E>
  /**
   * Runs an attempt that proves something only if it is over within its ttl; if the machine was too slow for that, runs it
   * again with a ttl twice as long.
   */
  readonly inTime: <A>(attempt: (ttl: Duration.Duration) => Effect.Effect<A, unknown>) => Effect.Effect<A, unknown>
  /** Subscribes holders, each in its process, and waits until the subscriptions stand. */
  readonly listen: (key: string, ...ids: ReadonlyArray<string>) => Effect.Effect<Listening, unknown, Scope.Scope>
}

/** Operations on one key, each in the process of its holder, that fail unless they are answered as they say. */
export interface SemaphoreUnderTest {
  readonly key: string
  /** Acquires; the token, if the backing has tokens. */
  readonly acquires: (
    id: string,
    permits: number,
    ttl?: Duration.Duration
  ) => Effect.Effect<bigint | undefined, unknown>
  /** Asks without queue. */
  readonly isRefused: (id: string, permits: number, ttl?: Duration.Duration) => Effect.Effect<void, unknown>
  /** Asks with queue. */
  readonly waits: (id: string, permits: number, ttl?: Duration.Duration) => Effect.Effect<Waiting, unknown>
  /** Releases; how many permits were freed. */
  readonly releases: (id: string, permits: number) => Effect.Effect<number, unknown>
  /** Refreshes; whether there was a hold. */
  readonly refreshes: (id: string, permits: number, ttl?: Duration.Duration) => Effect.Effect<boolean, unknown>
  /** Refreshes; the token of the hold. */
  readonly tokenOf: (id: string, permits: number) => Effect.Effect<bigint, unknown>
  readonly count: Effect.Effect<number, unknown>
  readonly inspect: Effect.Effect<SemaphoreState, unknown>
}

export interface Listening {
  /** Fails unless exactly these holders are told, each at least once, since the last look. */
  readonly told: (...ids: ReadonlyArray<string>) => Effect.Effect<void, unknown>
  /** Fails unless these holders, maybe among others, are told since the last look. */
  readonly toldAmongOthers: (...ids: ReadonlyArray<string>) => Effect.Effect<void, unknown>
}

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

    const tick = Duration.millis(virtualTime ? 10 : 2)

    const eventually: Subject["eventually"] = Effect.fnUntraced(function*(what, condition) {
      const deadline = (yield* now) + Duration.toNanosUnsafe(patience)
      // Whatever is ready runs first, without time passing.
      yield* pass(Duration.zero)
      while (true) {
        if (yield* typeof condition === "function" ? Effect.sync(condition) : condition) return
        if ((yield* now) > deadline) return fail(`within ${Duration.format(patience)}: ${what}`)
        yield* pass(tick)
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
          yield* pass(tick)
        }
        return yield* Fiber.join(fiber)
      }))

    const inTime: Subject["inTime"] = (attempt) => {
      const tryWith = (ttl: Duration.Duration): ReturnType<typeof attempt> =>
        Effect.gen(function*() {
          const start = yield* now
          const exit = yield* Effect.exit(attempt(ttl))
          const passed = (yield* now) - start
          return yield* passed < Duration.toNanosUnsafe(ttl) ? exit : tryWith(Duration.times(ttl, 2))
        })
      return tryWith(short)
    }

    const listen: Subject["listen"] = Effect.fnUntraced(function*(key, ...ids) {
      const heard: Array<string> = []
      for (const id of ids) {
        const signals = processOf(id).onPermitsReleased!(key, id)
        yield* Effect.forkScoped(Stream.runForEach(signals, () => Effect.sync(() => heard.push(id))), {
          startImmediately: true
        })
      }
      yield* eventually(
        `each of ${show(ids)} hears that its subscription stands`,
        () => ids.every((id) => heard.includes(id))
      )
      heard.length = 0
      const areTold = (expected: ReadonlyArray<string>) =>
        Effect.ignoreCause(eventually("", () => expected.every((id) => heard.includes(id))))
      return {
        told: (...expected) =>
          Effect.gen(function*() {
            yield* areTold(expected)
            // Time for those who should not be told.
            yield* pass(Duration.millis(20))
            equal(Array.from(new Set(heard.splice(0))).toSorted(), expected.toSorted(), "who is told")
          }),
        toldAmongOthers: (...expected) =>
          Effect.gen(function*() {
            yield* areTold(expected)
            equal(expected.filter((id) => heard.includes(id)), expected, "who is told, among others")
            heard.length = 0
          })
      }
    })

    const freshKey = () => `key-${crypto.randomUUID()}`

    const semaphore: Subject["semaphore"] = (limit, key = freshKey()) => {
      const named = (id: string) => id.length > 40 ? `${show(id.slice(0, 40))}…` : show(id)
      const acquires: SemaphoreUnderTest["acquires"] = Effect.fnUntraced(function*(id, permits, ttl = long) {
        const answer = yield* processOf(id).tryAcquire(key, id, ttl, limit, permits)
        if (answer === true && !options.has("tokens")) return undefined
        if (typeof answer === "object" && answer._tag === "Acquired") return answer.fencingToken
        return fail(`${named(id)} asks for ${permits} of ${limit}: expected to acquire them, got ${show(answer)}`)
      })
      const refresh = (id: string, permits: number, ttl: Duration.Duration) =>
        processOf(id).refresh(key, id, ttl, limit, permits)

      return {
        key,
        acquires,
        isRefused: (id, permits, ttl = long) =>
          Effect.map(
            processOf(id).tryAcquire(key, id, ttl, limit, permits),
            (answer) => equal(answer, false, `${named(id)} asks for ${permits} of ${limit}, without queue`)
          ),
        waits: (id, permits, ttl = long) =>
          Effect.map(processOf(id).tryAcquire(key, id, ttl, limit, permits, { queue: true }), (answer) => {
            if (typeof answer === "object" && answer._tag === "Waiting") return answer
            return fail(
              `${named(id)} asks for ${permits} of ${limit}, with queue: expected to wait, got ${show(answer)}`
            )
          }),
        releases: (id, permits) => processOf(id).release(key, id, permits),
        refreshes: (id, permits, ttl = long) =>
          Effect.map(refresh(id, permits, ttl), (answer) => {
            isTrue(
              answer !== true || !options.has("tokens"),
              `${named(id)} refreshes: a backing with tokens answers with the token, got true`
            )
            return answer !== false
          }),
        tokenOf: (id, permits) =>
          Effect.map(refresh(id, permits, long), (answer) =>
            typeof answer === "object" && answer._tag === "Acquired"
              ? answer.fencingToken
              : fail(`${named(id)} refreshes: expected the token, got ${show(answer)}`)),
        count: Effect.suspend(() => processes.at(-1)!.getCount(key, long)),
        inspect: Effect.suspend(() => processes.at(-1)!.inspect!(key))
      }
    }

    return {
      options,
      processes,
      processOf,
      freshKey,
      semaphore,
      short,
      long,
      pass,
      expire: (ttl) => pass(Duration.sum(Duration.sum(ttl, options.granularity), Duration.millis(1))),
      eventually,
      drive,
      inTime,
      listen
    }
  }
)
