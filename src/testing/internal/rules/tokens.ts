/** B11 and S3: fencing tokens. */
import * as Effect from "effect/Effect"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal, isTrue } from "../assert.ts"

const rises = (tokens: ReadonlyArray<bigint | undefined>, what: string) =>
  isTrue(
    tokens.every((token, index) => index === 0 || token! > tokens[index - 1]!),
    `${what}: tokens must rise, got ${tokens.join(", ")}`
  )

export const cases = [
  backingCase(
    "B11",
    "the token stays the same as long as the hold",
    ["tokens"],
    ({ options, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, isRefused, releases } = semaphore(3)
        const token = yield* acquires("a", 2)
        yield* acquires("b", 1)
        equal(yield* acquires("a", 2), token, "the token when asked again")
        equal(yield* holds("a", 2), token, "the token when refreshed")
        yield* isRefused("a", 3)
        equal(yield* holds("a", 2), token, "the token after a request that was refused")
        if (options.has("partialRelease")) {
          yield* releases("a", 1)
          equal(yield* holds("a", 1), token, "the token after a part was released")
        }
      })
  ),

  backingCase(
    "B11",
    "a request for another number of permits is another acquisition, with a new token",
    ["tokens"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires } = semaphore(3)
        rises([yield* acquires("a", 2), yield* acquires("a", 3), yield* acquires("a", 1)], "with each number")
      })
  ),

  backingCase(
    "B11",
    "after any process has released a part of a hold, a request for the former number of permits is another acquisition",
    ["tokens", "partialRelease"],
    ({ processes, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, key } = semaphore(4)
        const tokens = [yield* acquires("a", 2)]
        for (const process of processes) {
          equal(yield* process.release(key, "a", 1), 1, "permits freed")
          tokens.push(yield* acquires("a", 2))
          equal(yield* count, 2, "permits held")
        }
        rises(tokens, "after each part")
      })
  ),

  backingCase(
    "B11",
    "inspect shows the tokens, and holders and waiters in the order of the line",
    ["tokens", "inspect"],
    ({ options, semaphore }) =>
      Effect.gen(function*() {
        const { acquires, inspect, waits } = semaphore(4)
        yield* acquires("a", 1)
        const expected = [["c", yield* acquires("c", 1)], ["b", yield* acquires("b", 1)], [
          "a",
          yield* acquires("a", 2)
        ]]
        yield* acquires("c", 1)
        const tokens = Effect.map(inspect, ({ holders, line }) =>
          [holders, line].map((contenders) =>
            contenders.map(({ fencingToken, identifier }) => [identifier, fencingToken])
          ))
        equal(yield* tokens, [expected, []], "holders and line")
        if (!options.has("queue")) {
          return
        }
        const line = [["y", (yield* waits("y", 3)).token], ["x", (yield* waits("x", 1)).token]]
        equal(yield* tokens, [expected, line], "holders and line")
      })
  ),

  backingCase(
    "S3",
    "tokens rise with each acquisition, whichever process asks",
    ["tokens"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases } = semaphore(10)
        const tokens: Array<bigint | undefined> = []
        for (const id of ["a", "b", "c", "d", "e", "f", "g"]) {
          tokens.push(yield* acquires(id, 1))
          if (tokens.length % 2 === 0) yield* releases(id, 1)
        }
        rises(tokens, "of one key")
      })
  ),

  backingCase(
    "S3",
    "tokens rise along the line, also past waiters that leave it",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, releases, waits } = semaphore(1)
        const tokens = [yield* acquires("a", 1)]
        for (const id of ["b", "c", "d"]) tokens.push((yield* waits(id, 1)).token)
        yield* releases("d", 1)
        tokens.push((yield* waits("e", 1)).token)
        for (const id of ["a", "b", "c"]) yield* releases(id, 1)
        tokens.push((yield* waits("f", 1)).token)
        for (const id of ["e", "f"]) yield* releases(id, 1)
        tokens.push(yield* acquires("g", 1))
        rises(tokens, "of one key")
      })
  ),

  backingCase(
    "S3",
    "no token is issued again when the key has vanished",
    ["tokens"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, releases } = semaphore(1)
        const tokens: Array<bigint | undefined> = []
        for (const id of ["a", "b", "a", "a"]) {
          tokens.push(yield* acquires(id, 1))
          yield* releases(id, 1)
          equal(yield* count, 0, "permits held")
        }
        rises(tokens, "of a key that was released in between")
      })
  ),

  leaseCase(
    "S3",
    "no token is issued again after expiry",
    ["tokens"],
    ({ expire, semaphore, short }) =>
      Effect.gen(function*() {
        const { acquires } = semaphore(1)
        const tokens: Array<bigint | undefined> = []
        for (const id of ["a", "b", "b"]) {
          tokens.push(yield* acquires(id, 1, short))
          yield* expire(short)
        }
        rises(tokens, "of holds that expired")
      })
  ),

  backingCase(
    "S3",
    "no token is issued again after a restart of the store",
    ["tokens", "restart"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, releases } = subject.semaphore(1)
        const before = yield* acquires("a", 1)
        yield* releases("a", 1)
        yield* subject.options.restart
        let after: bigint | undefined
        yield* subject.eventually(
          "an operation succeeds again",
          Effect.map(Effect.exit(acquires("b", 1)), (exit) => {
            if (exit._tag === "Success") after = exit.value
            return exit._tag === "Success"
          })
        )
        rises([before, after], "before and after the restart")
      })
  )
]
