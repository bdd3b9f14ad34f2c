/** B2, B10 and B13: what operators see, and what they revoke. */
import { Effect, Stream } from "effect"
import { broken as brokenIn } from "./broken.ts"

const broken: typeof brokenIn = (meant, fault, alter) =>
  brokenIn(meant, fault, alter, { capabilities: ["queue", "push", "partialRelease", "operators"] })

export const backings = [
  broken("B13: a revoked hold is gone, and every process hears of it", "keeps what is revoked", (memory) => ({
    release: (key, id, permits, options) =>
      options?.revoke && id !== "probe"
        ? Effect.as(memory.release(key, "probe", 1, { revoke: true }), permits === 1 ? 0 : 2)
        : memory.release(key, id, permits, options)
  })),

  broken(
    "B13: a revoked place is gone, every process hears of it, and those behind it move up",
    "notifies of a revocation with half of the identifier",
    ({ onRevoked }) => ({
      onRevoked: Stream.map(onRevoked!, ({ holderId, key }) => ({ key, holderId: holderId.split(",")[0]! }))
    })
  ),

  broken("B13: a release is not a revocation", "notifies of every release as of a revocation", (memory) => ({
    release: (key, id, permits, options) => memory.release(key, id, permits, { ...options, revoke: true })
  })),

  broken(
    "B2: an answer names the limit of a holder if it is smaller than that of the request",
    "always names the limit",
    (memory) => ({
      tryAcquire: (key, id, ttl, limit, ...rest) =>
        Effect.map(
          memory.tryAcquire(key, id, ttl, limit, ...rest),
          (answer) => typeof answer === "object" ? { ...answer, limit: answer.limit ?? limit } : answer
        )
    })
  ),

  broken(
    "B10: inspect lists a thousand holders and waiters, counts all, and names their owners",
    "counts only what it lists",
    (memory) => ({
      inspect: (key) =>
        Effect.map(memory.inspect!(key), (state) => ({
          ...state,
          holderCount: state.holders.length,
          waiterCount: state.line.length
        }))
    })
  ),

  broken("B10: keys lists the keys that are used, each once", "lists a key for each holder", ({ keys }) => ({
    keys: Stream.flatMap(keys!, (key) => Stream.make(key, key))
  })),

  broken("B10: onChanged emits when a waiter is granted", "never emits", () => ({
    onChanged: () => Stream.never
  }))
]
