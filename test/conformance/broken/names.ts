/** B8: keys and identifiers are arbitrary strings. */
import { Effect, Stream } from "effect"
import { broken, unlessAcquired, withNames } from "./broken.ts"

export const backings = [
  broken("B8: no two pairs of key and identifier collide", "takes a+b_c for a_b+c", (memory) => {
    const pairs = new Map<string, readonly [key: string, id: string]>()
    const pairOf = (key: string, id: string) => {
      const name = `${key}_${id}`
      return pairs.get(name) ?? pairs.set(name, [key, id]).get(name)!
    }
    return {
      tryAcquire: (key, id, ...rest) => memory.tryAcquire(...pairOf(key, id), ...rest),
      refresh: (key, id, ...rest) => memory.refresh(...pairOf(key, id), ...rest),
      release: (key, id, ...rest) => memory.release(...pairOf(key, id), ...rest)
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
    "trims the identifiers that it shows",
    (memory) => ({
      inspect: (key) =>
        Effect.map(memory.inspect!(key), ({ holders, line, ...counts }) => ({
          ...counts,
          holders: holders.map((holder) => ({ ...holder, identifier: holder.identifier.trim() })),
          line
        }))
    })
  ),

  broken(
    "B8: any string may wait, and has a place of its own",
    "ignores the case of the identifiers of waiters",
    (memory) => unlessAcquired(memory, (key, id, ...rest) => memory.tryAcquire(key, id.toLowerCase(), ...rest))
  ),

  broken("B8: a grant under any key, to any identifier, is heard", "notifies by keys in lower case", (memory) => ({
    onPermitsReleased: (key) =>
      Stream.concat(
        Stream.take(memory.onPermitsReleased!(key), 1),
        Stream.drop(memory.onPermitsReleased!(key.toLowerCase()), 1)
      )
  }))
]
