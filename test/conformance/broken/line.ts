/** B3: the line. */
import { Duration, Effect } from "effect"
import { broken, holdOf, lineOf, unlessAcquired } from "./broken.ts"

export const backings = [
  broken(
    "B3: who can't go joins the end of the line, and keeps its place",
    "sends whoever asks again to the end of the line",
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
  )
]
