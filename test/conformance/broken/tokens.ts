/** B11 and S3: fencing tokens. */
import { Duration, Effect } from "effect"
import type { Acquired, Waiting } from "../../../src/core/Backing.ts"
import { acquired, broken, holdersOf, holdOf, isAcquired, withTokens } from "./broken.ts"
import type { Contender } from "./plain.ts"
import { Plain, wrong } from "./plain.ts"

let restarts = 0

export const backings = [
  broken("B11: the token stays the same as long as the hold", "issues a token with every answer", (memory) => {
    let last = 0n
    return withTokens(memory, () => ++last)
  }),

  broken(
    "B11: a request for another number of permits is another acquisition, with a new token",
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
    "B11: inspect shows the tokens, and holders and waiters in the order of the line",
    "shows holders in the order of their identifiers",
    (memory) => ({
      inspect: (key) =>
        Effect.map(memory.inspect!(key), ({ holders, line, ...counts }) => ({
          ...counts,
          holders: holders.toSorted((a, b) => a.identifier < b.identifier ? -1 : 1),
          line
        }))
    })
  ),

  broken(
    "S3: tokens rise with each acquisition, whichever process asks",
    "lets tokens go back",
    (memory) => withTokens(memory, (token) => 1_000_000n - token)
  ),

  wrong(
    "S3: tokens rise along the line, also past waiters that leave it",
    "issues again the number of a place that was given up",
    class extends Plain {
      private next = 0n
      override nextToken() {
        return ++this.next
      }
      override remove(contender: Contender) {
        super.remove(contender)
        if (contender.token === this.next) this.next--
      }
    }
  ),

  broken(
    "S3: no token is issued again when the key has vanished",
    "counts tokens anew when the key was released",
    (memory) => {
      let first = 0n
      return {
        ...withTokens(memory, (token) => token - first),
        release: (key, id, permits) =>
          // It ignores the token: those that it has answered are not those of the memory backing.
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
    const after = (key: string) => (answer: boolean | Acquired | Waiting) =>
      isAcquired(answer) ? acquired(answer.fencingToken - (first.get(key) ?? 0n)) : answer
    return {
      tryAcquire: (key, id, ...rest) =>
        Effect.gen(function*() {
          const isIdle = (yield* holdersOf(memory, key)).length === 0
          const answer = yield* memory.tryAcquire(key, id, ...rest)
          if (isIdle && isAcquired(answer)) first.set(key, answer.fencingToken - 1n)
          return after(key)(answer)
        }),
      refresh: (key, ...rest) => Effect.map(memory.refresh(key, ...rest), after(key))
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
  )
]
