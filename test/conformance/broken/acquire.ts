/** B1, B2 and S1: what a request for permits is answered. */
import { Effect } from "effect"
import { acquired, broken, holdOf, isAcquired, lineOf, takesWhatIsFree, unlessAcquired } from "./broken.ts"

export const backings = [
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

  broken("B2: without queue, nobody overtakes those who wait", "lets tryAcquire overtake the line", (memory) => ({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      options?.queue
        ? memory.tryAcquire(key, id, ttl, limit, permits, options)
        : takesWhatIsFree(memory)(key, id, ttl, limit, permits)
  })),

  broken("B2: with queue, nobody overtakes either", "lets whoever joins the line overtake it", (memory) => ({
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
  )
]
