/**
 * Backings that are wrong in one way each, made of the one in memory: what the suite is for is to tell. Each names the case
 * that is meant to.
 */
import { Clock, Duration, Effect, Layer, Queue, Stream } from "effect"
import { DistributedSemaphoreBacking, FencingToken, MemoryBacking } from "../../src/index.ts"
import type { BackingSuiteOptions } from "../../src/testing/cases.ts"

type Backing = DistributedSemaphoreBacking
type Acquired = Extract<Effect.Success<ReturnType<Backing["tryAcquire"]>>, { readonly _tag: "Acquired" }>

export interface Broken {
  readonly fault: string
  /** Rule and name of the case. */
  readonly meant: string
  readonly options: BackingSuiteOptions
}

const broken = (
  meant: string,
  fault: string,
  alter: (memory: Backing) => Partial<Backing>,
  options: Partial<BackingSuiteOptions> = {}
): Broken => ({
  fault,
  meant,
  options: {
    layer: Layer.effect(
      DistributedSemaphoreBacking,
      Effect.map(DistributedSemaphoreBacking, (memory) => ({ ...memory, ...alter(memory) }))
    ).pipe(Layer.provide(MemoryBacking.layer)),
    capabilities: ["queue", "tokens", "push", "inspect", "partialRelease"],
    instances: 1,
    virtualTime: true,
    ...options
  }
})

const look = (memory: Backing, key: string) => Effect.orDie(memory.inspect!(key))
const holdersOf = (memory: Backing, key: string) => Effect.map(look(memory, key), ({ holders }) => holders)
const lineOf = (memory: Backing, key: string) => Effect.map(look(memory, key), ({ line }) => line)
const holdOf = (memory: Backing, key: string, id: string) =>
  Effect.map(holdersOf(memory, key), (holders) => holders.find(({ identifier }) => identifier === id))
const sum = (entries: ReadonlyArray<{ readonly permits: number }>) =>
  entries.reduce((total, { permits }) => total + permits, 0)
const acquired = (token: bigint): Acquired => ({ _tag: "Acquired", fencingToken: FencingToken(token) })
const isAcquired = (answer: unknown): answer is Acquired =>
  typeof answer === "object" && answer !== null && "_tag" in answer && answer._tag === "Acquired"

/** Changes every token. */
const withTokens = (memory: Backing, change: (token: bigint) => bigint): Partial<Backing> => ({
  tryAcquire: (...args) =>
    Effect.map(
      memory.tryAcquire(...args),
      (answer) => isAcquired(answer) ? acquired(change(answer.fencingToken)) : answer
    ),
  refresh: (...args) =>
    Effect.map(
      memory.refresh(...args),
      (answer) => isAcquired(answer) ? acquired(change(answer.fencingToken)) : answer
    ),
  inspect: (key) =>
    Effect.map(memory.inspect!(key), ({ holders, line }) => ({
      holders: holders.map((holder) => ({ ...holder, fencingToken: FencingToken(change(holder.fencingToken)) })),
      line
    }))
})

/** Changes every name of a holder. */
const withNames = (memory: Backing, change: (key: string, id: string) => string): Partial<Backing> => ({
  tryAcquire: (key, id, ...rest) => memory.tryAcquire(key, change(key, id), ...rest),
  refresh: (key, id, ...rest) => memory.refresh(key, change(key, id), ...rest),
  release: (key, id, permits) => memory.release(key, change(key, id), permits),
  onPermitsReleased: (key, id) => memory.onPermitsReleased!(key, id && change(key, id))
})

/** Changes every ttl of a hold. */
const withTtl = (memory: Backing, change: (ttl: Duration.Duration) => Duration.Duration): Partial<Backing> => ({
  tryAcquire: (key, id, ttl, ...rest) => memory.tryAcquire(key, id, change(ttl), ...rest),
  refresh: (key, id, ttl, ...rest) => memory.refresh(key, id, change(ttl), ...rest)
})

/** Expires holds by a time of the caller's: `isOver(acquired, now, ttl of the caller)`. */
const withExpiry = (
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

/** Does to a request that would wait, or be refused, something else. */
const unlessAcquired = (
  memory: Backing,
  otherwise: (...args: Parameters<Backing["tryAcquire"]>) => ReturnType<Backing["tryAcquire"]>
): Partial<Backing> => ({
  tryAcquire: (key, id, ttl, limit, permits, options) =>
    Effect.flatMap(
      memory.tryAcquire(key, id, ttl, limit, permits),
      (answer) => isAcquired(answer) ? Effect.succeed(answer) : otherwise(key, id, ttl, limit, permits, options)
    )
})

const firstSignal = (memory: Backing, key: string, id?: string) => Stream.take(memory.onPermitsReleased!(key, id), 1)

/** Takes what is free, whoever waits. */
const takesWhatIsFree = (memory: Backing): Backing["tryAcquire"] => (key, id, ttl, limit, permits, options) =>
  Effect.flatMap(lineOf(memory, key), (line) => memory.tryAcquire(key, id, ttl, limit + sum(line), permits, options))

let restarts = 0

export const brokenBackings: ReadonlyArray<Broken> = [
  broken("B1: asking again for what one holds succeeds, and does not count twice", "counts a retry twice", (memory) => {
    let copies = 0
    return {
      tryAcquire: (key, id, ...rest) =>
        Effect.flatMap(
          holdOf(memory, key, id),
          (hold) => memory.tryAcquire(key, hold === undefined ? id : `${id} ${copies++}`, ...rest)
        )
    }
  }),

  broken("B1: asking again for what one holds extends the lease", "does not extend the lease of a retry", (memory) => ({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      Effect.flatMap(holdOf(memory, key, id), (hold) =>
        hold?.permits === permits
          ? Effect.succeed(acquired(hold.fencingToken))
          : memory.tryAcquire(key, id, ttl, limit, permits, options))
  })),

  broken(
    "B1: asking for another number makes the hold exactly that",
    "adds what is asked for to what is held",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        Effect.flatMap(holdOf(memory, key, id), (hold) =>
          hold === undefined || hold.permits === permits
            ? memory.tryAcquire(key, id, ttl, limit, permits, options)
            : memory.tryAcquire(key, id, ttl, limit, hold.permits + permits, options))
    })
  ),

  broken(
    "B1: a refused request changes nothing about what one holds",
    "gives up the hold for a refused request",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.andThen(
          options?.queue ? Effect.void : memory.release(key, id, permits),
          memory.tryAcquire(key, id, ttl, limit, permits, options)
        ))
  ),

  broken(
    "B1: waiting for another number changes nothing about what one holds",
    "gives up the hold to wait for another number",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.andThen(
          options?.queue
            ? Effect.flatMap(
              holdOf(memory, key, id),
              (hold) => hold ? memory.release(key, id, hold.permits) : Effect.void
            )
            : Effect.void,
          memory.tryAcquire(key, id, ttl, limit, permits, options)
        ))
  ),

  broken("S1: together, holders never have more than the limit", "ignores the limit", (memory) => ({
    tryAcquire: (key, id, ttl, _limit, ...rest) => memory.tryAcquire(key, id, ttl, Number.MAX_SAFE_INTEGER, ...rest)
  })),

  broken("S1: one request for more than is free gets nothing", "lets the last request overdraw", (memory) => ({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      Effect.flatMap(
        memory.getCount(key, ttl),
        (held) => memory.tryAcquire(key, id, ttl, held < limit ? limit + permits - 1 : limit, permits, options)
      )
  })),

  broken("B2: succeeds when the permits are free, and only then", "never lets out the last permit", (memory) => ({
    tryAcquire: (key, id, ttl, limit, ...rest) => memory.tryAcquire(key, id, ttl, limit === 5 ? 4 : limit, ...rest)
  })),

  broken("B2: each request goes by its own limit", "goes by the first limit it has seen", (memory) => {
    const limits = new Map<string, number>()
    return {
      tryAcquire: (key, id, ttl, limit, ...rest) => {
        limits.set(key, limits.get(key) ?? limit)
        return memory.tryAcquire(key, id, ttl, limits.get(key)!, ...rest)
      }
    }
  }),

  broken("B2: without queue, nobody overtakes those who wait", "tryAcquire overtakes the line", (memory) => ({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      options?.queue
        ? memory.tryAcquire(key, id, ttl, limit, permits, options)
        : takesWhatIsFree(memory)(key, id, ttl, limit, permits)
  })),

  broken("B2: with queue, nobody overtakes either", "whoever joins the line overtakes it", (memory) => ({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      options?.queue
        ? takesWhatIsFree(memory)(key, id, ttl, limit, permits, options)
        : memory.tryAcquire(key, id, ttl, limit, permits)
  })),

  broken(
    "B2: whoever fits along with everyone ahead goes, in any order",
    "lets only the first in line go",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        Effect.flatMap(lineOf(memory, key), ([first]) =>
          memory.tryAcquire(
            key,
            id,
            ttl,
            first === undefined || first.identifier === id ? limit : 0,
            permits,
            options
          ))
    })
  ),

  broken(
    "B2: a refused request leaves no place in line",
    "leaves a place for a refused request",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.map(
          memory.tryAcquire(key, id, ttl, limit, permits, { queue: true }),
          (answer) => !options?.queue && !isAcquired(answer) ? false : answer
        ))
  ),

  broken(
    "B3: who can't go joins the end of the line, and keeps its place",
    "whoever asks again goes to the end of the line",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.gen(function*() {
          if (options?.queue && !(yield* holdOf(memory, key, id))) yield* memory.release(key, id, 1)
          return yield* memory.tryAcquire(key, id, ttl, limit, permits, options)
        }))
  ),

  broken(
    "B3: positions move up when someone ahead goes or leaves",
    "tells the position at which one joined",
    (memory) => {
      const positions = new Map<string, number>()
      return {
        tryAcquire: (key, id, ...rest) =>
          Effect.map(memory.tryAcquire(key, id, ...rest), (answer) => {
            const name = JSON.stringify([key, id])
            if (typeof answer === "boolean" || answer._tag === "Acquired") {
              positions.delete(name)
              return answer
            }
            positions.set(name, positions.get(name) ?? answer.position)
            return { ...answer, position: positions.get(name)! }
          })
      }
    }
  ),

  broken(
    "B3: asking with queue renews the place",
    "does not renew places",
    (memory) =>
      unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
        Effect.flatMap(lineOf(memory, key), (line) => {
          const position = line.findIndex(({ identifier }) => identifier === id)
          return options?.queue && position >= 0 && line[position]!.permits === permits
            ? Effect.succeed({ _tag: "Waiting" as const, position, retryAfter: Duration.millis(10) })
            : memory.tryAcquire(key, id, ttl, limit, permits, options)
        }))
  ),

  broken(
    "B3: retryAfter is 1 s at most for the first in line, and a third of the ttl for the others",
    "wants nobody to ask within the hour",
    (memory) => ({
      tryAcquire: (...args) =>
        Effect.map(
          memory.tryAcquire(...args),
          (answer) =>
            typeof answer === "object" && answer._tag === "Waiting"
              ? { ...answer, retryAfter: Duration.hours(1) }
              : answer
        )
    })
  ),

  broken(
    "B3: retryAfter ends with the lease that is in the way, or with the place",
    "looks at no lease for retryAfter",
    (memory) => ({
      tryAcquire: (key, id, ttl, ...rest) =>
        Effect.map(memory.tryAcquire(key, id, ttl, ...rest), (answer) => {
          if (typeof answer === "boolean" || answer._tag === "Acquired") return answer
          const retryAfter = answer.position === 0 ? Duration.seconds(1) : Duration.divideUnsafe(ttl, 3)
          return { ...answer, retryAfter }
        })
    })
  ),

  broken(
    "B3: retryAfter comes with notifications only, and is positive",
    "gives retryAfter, but does not notify",
    () => ({}),
    {
      capabilities: ["queue", "tokens", "inspect", "partialRelease"]
    }
  ),

  broken("B4: a part of a hold can be given up", "gives up all of a hold", (memory) => ({
    release: (key, id, permits) =>
      Effect.map(memory.release(key, id, Number.MAX_SAFE_INTEGER), (freed) => Math.min(freed, permits))
  })),

  broken("B4: frees no more than is held", "says it freed what it was asked to free", (memory) => ({
    release: (key, id, permits) => Effect.as(memory.release(key, id, permits), permits)
  })),

  broken(
    "B4: an unknown holder frees nothing, of its own or of others",
    "lets a release free another holder's permits",
    (memory) => ({
      release: (key, id, permits) =>
        Effect.gen(function*() {
          const freed = yield* memory.release(key, id, permits)
          const [first] = yield* holdersOf(memory, key)
          return freed > 0 || first === undefined ? freed : yield* memory.release(key, first.identifier, permits)
        })
    })
  ),

  broken("B4: gives up the place in line", "leaks places in line", (memory) => ({
    release: (key, id, permits) =>
      Effect.flatMap(holdOf(memory, key, id), (hold) => hold ? memory.release(key, id, permits) : Effect.succeed(0))
  })),

  broken("B4: wakes whoever can go now", "wakes nobody", (memory) => ({
    onPermitsReleased: (key, id) => Stream.concat(firstSignal(memory, key, id), Stream.never)
  })),

  broken("B4: wakes those behind a waiter that leaves", "wakes nobody when a waiter leaves", (memory) => {
    const signals = new Set<(key: string) => void>()
    return {
      release: (key, id, permits) =>
        Effect.tap(
          memory.release(key, id, permits),
          (freed) => Effect.sync(() => freed > 0 && signals.forEach((signal) => signal(key)))
        ),
      // Whenever a hold is given up, whoever can go is found by looking.
      onPermitsReleased: (key, id) =>
        Stream.callback<void>((queue) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const signal = (released: string) => {
                if (released === key) Queue.offerUnsafe(queue, undefined)
              }
              signals.add(signal)
              signal(key)
              return signal
            }),
            (signal) => Effect.sync(() => signals.delete(signal))
          )
        ).pipe(Stream.filterEffect(() =>
          Effect.map(
            lineOf(memory, key),
            ([first]) => first === undefined || id === undefined || first.identifier === id
          )
        ))
    }
  }),

  broken("L1: a release tells the first in line", "wakes, but not in order", (memory) => ({
    onPermitsReleased: (key, id) =>
      Stream.concat(
        firstSignal(memory, key, id),
        Stream.drop(memory.onPermitsReleased!(key), 1).pipe(
          Stream.filterEffect(() => Effect.map(lineOf(memory, key), (line) => line.at(-1)?.identifier === id))
        )
      )
  })),

  broken(
    "C2: a release wakes those at the head of the line who fit together, and nobody else",
    "wakes everybody",
    (memory) => ({
      onPermitsReleased: (key) => memory.onPermitsReleased!(key)
    })
  ),

  broken("B5: extends the lease", "does not extend the lease on refresh", (memory) => ({
    refresh: (key, id) =>
      Effect.map(holdOf(memory, key, id), (hold) => hold !== undefined && acquired(hold.fencingToken))
  })),

  broken(
    "B5: the lease lasts ttl from the refresh, even if it would have lasted longer",
    "never shortens a lease",
    (memory) => ({
      refresh: (key, id, ttl, limit, permits) =>
        Effect.flatMap(
          holdOf(memory, key, id),
          (hold) => memory.refresh(key, id, hold ? Duration.max(hold.remaining, ttl) : ttl, limit, permits)
        )
    })
  ),

  broken("B5: leaves the number of permits alone", "sets the number of permits on refresh", (memory) => ({
    refresh: (key, id, ttl, limit, permits) =>
      Effect.flatMap(
        holdOf(memory, key, id),
        (hold) => hold ? Effect.map(memory.tryAcquire(key, id, ttl, limit, permits), isAcquired) : Effect.succeed(false)
      )
  })),

  broken("B5: creates nothing: false for one who never held, or has released", "acquires on refresh", (memory) => ({
    refresh: (key, id, ttl, limit, permits) =>
      Effect.flatMap(memory.refresh(key, id, ttl, limit, permits), (answer) =>
        answer === false
          ? Effect.map(memory.tryAcquire(key, id, ttl, limit, permits), (again) => isAcquired(again) && again)
          : Effect.succeed(answer))
  })),

  broken("B5: resurrects nothing: false for a hold that has expired", "resurrects on refresh", (memory) => {
    const expired = new Set<string>()
    const nameOf = (key: string, id: string) => JSON.stringify([key, id])
    return {
      tryAcquire: (key, id, ...rest) =>
        Effect.tap(
          memory.tryAcquire(key, id, ...rest),
          (answer) => Effect.sync(() => isAcquired(answer) && expired.add(nameOf(key, id)))
        ),
      release: (key, id, permits) => {
        expired.delete(nameOf(key, id))
        return memory.release(key, id, permits)
      },
      refresh: (key, id, ttl, limit, permits) =>
        Effect.flatMap(
          memory.refresh(key, id, ttl, limit, permits),
          (answer) =>
            answer === false && expired.has(nameOf(key, id))
              ? Effect.map(memory.tryAcquire(key, id, ttl, limit, permits), (again) => isAcquired(again) && again)
              : Effect.succeed(answer)
        )
    }
  }),

  broken("B6: a hold that has expired counts for nothing", "getCount counts the expired", (memory) => {
    const holds = new Map<string, Map<string, number>>()
    const ofKey = (key: string) => holds.get(key) ?? holds.set(key, new Map()).get(key)!
    return {
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        Effect.tap(
          memory.tryAcquire(key, id, ttl, limit, permits, options),
          (answer) => Effect.sync(() => isAcquired(answer) && ofKey(key).set(id, permits))
        ),
      release: (key, id, permits) =>
        Effect.tap(memory.release(key, id, permits), (freed) =>
          Effect.sync(() => {
            const left = (ofKey(key).get(id) ?? 0) - freed
            if (left > 0) ofKey(key).set(id, left)
            else ofKey(key).delete(id)
          })),
      getCount: (key) =>
        Effect.sync(() => Array.from(ofKey(key).values()).reduce((total, permits) => total + permits, 0))
    }
  }),

  broken(
    "B6: a hold does not expire before its ttl",
    "expires a little early",
    (memory) => withTtl(memory, (ttl) => Duration.times(ttl, 0.9))
  ),

  broken(
    "B6: a caller with a short ttl does not shorten another's lease",
    "expires by the caller's ttl",
    (memory) =>
      withExpiry(
        memory,
        Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6),
        ({ since }, now, ttl) => now - since >= ttl
      )
  ),

  broken(
    "B6: a place that has expired counts for nothing",
    "keeps places for ever",
    (memory) =>
      unlessAcquired(
        memory,
        (key, id, _ttl, limit, permits, options) =>
          memory.tryAcquire(key, id, Duration.days(1), limit, permits, options)
      )
  ),

  broken(
    "S4: a client whose clock is an hour off steals nothing",
    "expires by the client's clock",
    (memory) => withExpiry(memory, Clock.currentTimeMillis, ({ since, ttl }, now) => now - since >= ttl)
  ),

  broken(
    "S4: a client whose clock is an hour off loses nothing, and keeps nothing too long",
    "expires by the clock of the client that acquired",
    (memory) => withExpiry(memory, Effect.sync(() => Date.now()), ({ since, ttl }, now) => now - since >= ttl)
  ),

  broken(
    "L2: a holder that has crashed delays a waiter by its ttl at most",
    "keeps leases much longer than asked for",
    (memory) => withTtl(memory, (ttl) => Duration.times(ttl, 100))
  ),

  broken(
    "L3: a lost notification delays the first in line by 1 s at most",
    "relies on its notifications",
    (memory) => ({
      tryAcquire: (...args) =>
        Effect.map(memory.tryAcquire(...args), (answer) =>
          typeof answer === "object" && answer._tag === "Waiting"
            ? { ...answer, retryAfter: Duration.seconds(2) }
            : answer)
    })
  ),

  broken("B7: emits when the subscription stands", "does not say when the subscription stands", (memory) => ({
    onPermitsReleased: (key, id) => Stream.drop(memory.onPermitsReleased!(key, id), 1)
  })),

  broken("B7: a release is heard", "emits nothing", () => ({ onPermitsReleased: () => Stream.never })),

  broken("B7: goes on after the store was restarted", "does not subscribe again after a restart", (memory) => {
    const before = restarts
    return {
      onPermitsReleased: (key, id) => Stream.filter(memory.onPermitsReleased!(key, id), () => restarts === before)
    }
  }, { restart: Effect.sync(() => void restarts++) }),

  broken("B8: no two pairs of key and identifier collide", "takes a+b_c for a_b+c", (memory) => {
    const pairs = new Map<string, readonly [key: string, id: string]>()
    const pairOf = (key: string, id: string) => {
      const name = `${key}_${id}`
      return pairs.get(name) ?? pairs.set(name, [key, id]).get(name)!
    }
    return {
      tryAcquire: (key, id, ...rest) => memory.tryAcquire(...pairOf(key, id), ...rest),
      refresh: (key, id, ...rest) => memory.refresh(...pairOf(key, id), ...rest),
      release: (key, id, permits) => memory.release(...pairOf(key, id), permits)
    }
  }),

  broken(
    "B8: any string is an identifier, and a holder of its own",
    "cuts identifiers off after 255 characters",
    (memory) => withNames(memory, (_, id) => id.slice(0, 255))
  ),

  broken("B8: any string is a key, and a semaphore of its own", "normalizes keys", (memory) => ({
    tryAcquire: (key, ...rest) => memory.tryAcquire(key.normalize(), ...rest),
    release: (key, ...rest) => memory.release(key.normalize(), ...rest),
    getCount: (key, ttl) => memory.getCount(key.normalize(), ttl)
  })),

  broken(
    "B8: identifiers come back from inspect as they were",
    "shows identifiers without blanks around them",
    (memory) => ({
      inspect: (key) =>
        Effect.map(memory.inspect!(key), ({ holders, line }) => ({
          holders: holders.map((holder) => ({ ...holder, identifier: holder.identifier.trim() })),
          line
        }))
    })
  ),

  broken("B8: any string is woken by its own name", "wakes by names in lower case", (memory) => ({
    onPermitsReleased: (key, id) =>
      Stream.concat(firstSignal(memory, key, id), Stream.drop(memory.onPermitsReleased!(key, id?.toLowerCase()), 1))
  })),

  broken("B9: of many who ask at once, as many get permits as there are", "looks first, and writes then", (memory) => ({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      Effect.gen(function*() {
        const free = limit - sum((yield* holdersOf(memory, key)).filter(({ identifier }) => identifier !== id))
        yield* Effect.yieldNow
        return yield* memory.tryAcquire(key, id, ttl, free >= permits ? limit + limit : limit, permits, options)
      })
  })),

  broken("B9: releases at once free each hold once", "looks what to free first, and frees it then", (memory) => ({
    release: (key, id, permits) =>
      Effect.gen(function*() {
        const hold = yield* holdOf(memory, key, id)
        yield* Effect.yieldNow
        yield* memory.release(key, id, permits)
        return Math.min(permits, hold?.permits ?? 0)
      })
  })),

  broken("B10: looking does not extend a lease", "extends leases when they are counted", (memory) => ({
    getCount: (key, ttl) =>
      Effect.gen(function*() {
        for (const { identifier } of yield* holdersOf(memory, key)) yield* memory.refresh(key, identifier, ttl, 1, 1)
        return yield* memory.getCount(key, ttl)
      })
  })),

  broken("B10: looking changes nothing that can be seen", "empties the line when it is inspected", (memory) => ({
    inspect: (key) =>
      Effect.tap(
        memory.inspect!(key),
        ({ line }) => Effect.forEach(line, ({ identifier }) => memory.release(key, identifier, 1))
      )
  })),

  broken("B10: inspect tells the time left of holds and places", "tells half of the time left", (memory) => ({
    inspect: (key) =>
      Effect.map(memory.inspect!(key), ({ holders, line }) => ({
        holders: holders.map((holder) => ({ ...holder, remaining: Duration.divideUnsafe(holder.remaining, 2) })),
        line
      }))
  })),

  broken("B11: the token stays the same as long as the hold", "issues a token with every answer", (memory) => {
    let last = 0n
    return withTokens(memory, () => ++last)
  }),

  broken(
    "B11: another number is another acquisition, with a new token",
    "keeps the token for another number",
    (memory) => {
      const tokens = new Map<string, bigint>()
      return {
        tryAcquire: (key, id, ...rest) =>
          Effect.gen(function*() {
            const name = JSON.stringify([key, id])
            if (!(yield* holdOf(memory, key, id))) tokens.delete(name)
            const answer = yield* memory.tryAcquire(key, id, ...rest)
            if (!isAcquired(answer)) return answer
            tokens.set(name, tokens.get(name) ?? answer.fencingToken)
            return acquired(tokens.get(name)!)
          })
      }
    }
  ),

  broken(
    "B11: inspect shows the tokens, and holders in the order of acquisition",
    "shows holders by name",
    (memory) => ({
      inspect: (key) =>
        Effect.map(memory.inspect!(key), ({ holders, line }) => ({
          holders: holders.toSorted((a, b) => a.identifier < b.identifier ? -1 : 1),
          line
        }))
    })
  ),

  broken(
    "S3: tokens rise with each acquisition, in whatever process",
    "tokens go back",
    (memory) => withTokens(memory, (token) => 1_000_000n - token)
  ),

  broken(
    "S3: no token is issued again when the key has vanished",
    "counts tokens anew when the key was released",
    (memory) => {
      let first = 0n
      return {
        ...withTokens(memory, (token) => token - first),
        release: (key, id, permits) =>
          Effect.tap(memory.release(key, id, permits), () =>
            Effect.gen(function*() {
              if ((yield* memory.getCount(key, Duration.minutes(1))) > 0) return
              const probe = yield* memory.tryAcquire(`${key} probe`, "probe", Duration.minutes(1), 1, 1)
              if (isAcquired(probe)) first = probe.fencingToken
            }))
      }
    }
  ),

  broken("S3: no token is issued again after expiry", "counts tokens anew when all has expired", (memory) => {
    const first = new Map<string, bigint>()
    const after =
      (key: string) => (answer: boolean | Acquired | { readonly _tag: "Waiting"; readonly position: number }) =>
        isAcquired(answer) ? acquired(answer.fencingToken - (first.get(key) ?? 0n)) : answer
    return {
      tryAcquire: (key, id, ...rest) =>
        Effect.gen(function*() {
          const isIdle = (yield* holdersOf(memory, key)).length === 0
          const answer = yield* memory.tryAcquire(key, id, ...rest)
          if (isIdle && isAcquired(answer)) first.set(key, answer.fencingToken - 1n)
          return after(key)(answer)
        }),
      refresh: (key, ...rest) =>
        Effect.map(memory.refresh(key, ...rest), (answer) => after(key)(answer) as boolean | Acquired)
    }
  }),

  broken(
    "S3: no token is issued again after a restart of the store",
    "counts tokens anew after a restart",
    (memory) => {
      let first = 0n
      let seen = restarts
      let highest = 0n
      return withTokens(memory, (token) => {
        if (restarts !== seen) [seen, first] = [restarts, highest]
        if (token > highest) highest = token
        return token - first
      })
    },
    { restart: Effect.sync(() => void restarts++) }
  ),

  broken("S5: a repeated request with queue has one place", "takes a place with every request", (memory) => {
    let copies = 0
    return unlessAcquired(memory, (key, id, ttl, limit, permits, options) =>
      Effect.gen(function*() {
        const isInLine = (yield* lineOf(memory, key)).some(({ identifier }) => identifier === id)
        const answer = yield* memory.tryAcquire(key, id, ttl, limit, permits, options)
        if (isInLine && options?.queue) {
          yield* memory.tryAcquire(key, `${id} ${copies++}`, ttl, limit, permits, options)
        }
        return answer
      }))
  }),

  broken(
    "S5: a repeated release frees nothing of anyone else's",
    "frees the next hold by a repeated release",
    (memory) => {
      const released = new Set<string>()
      return {
        release: (key, id, permits) =>
          Effect.gen(function*() {
            const name = JSON.stringify([key, id])
            const freed = yield* memory.release(key, id, permits)
            if (freed === 0 && released.has(name)) {
              const latest = (yield* holdersOf(memory, key)).at(-1)
              if (latest) return yield* memory.release(key, latest.identifier, permits)
            }
            if (freed > 0) released.add(name)
            return freed
          })
      }
    }
  ),

  broken(
    "L4: through the semaphore: permits are conserved however work ends, all ends, nothing is left",
    "loses a release now and then",
    (memory) => {
      let releases = 0
      return {
        release: (key, id, permits) =>
          // A UUID: the identifiers that the semaphore chooses.
          /^[\da-f-]{36}$/.test(id) && ++releases % 5 === 0 ? Effect.succeed(permits) : memory.release(key, id, permits)
      }
    }
  ),

  broken(
    "C5: an idle key leaves nothing in the store, once its leases would have ended",
    "leaves an entry of every key",
    () => ({}),
    {
      footprint: () => Effect.succeed(1)
    }
  )
]
