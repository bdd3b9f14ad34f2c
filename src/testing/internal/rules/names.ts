/** B8: keys and identifiers are arbitrary strings. */
import * as Effect from "effect/Effect"
import { backingCase } from "../../BackingCase.ts"
import { equal, show } from "../assert.ts"

const long = "long".repeat(2500)

/** Strings that mean something to some store, or are easily taken for one another. */
const names: ReadonlyArray<string> = [
  ..."a|a_0|a:b|a:|:a|}{|{}|{a}|a}:line|%7d;|%|}|*|?|[a]|a/b|a\\b|a,b|a.b|$1|0|00|1|-1|null|undefined|true".split("|"),
  ..."|😀|é|e\u0301|É|ß|ss|A|\0|a\0|\0a|\ud800|\udc00|\ufffd|\ufeff|\u200b|\u2028".split("|").slice(1),
  " ",
  "  ",
  "a ",
  " a",
  "a b",
  "\"",
  "'",
  "`",
  "''",
  "';drop table a;--",
  "\n",
  "\r\n",
  "\t",
  "__proto__",
  "constructor",
  "toString",
  long,
  `${long}!`,
  `!${long}`
]

const shown = (name: string) => show(name.length > 40 ? `${name.slice(0, 40)}…` : name)

/** Returns groups of pairs of key and identifier. The pairs of a group are one string if they are joined carelessly. */
const groups = (separator: string) =>
  [
    [["a", `b${separator}c`], [`a${separator}b`, "c"]],
    [["a", `b${separator}c${separator}d`], [`a${separator}b${separator}c`, "d"]],
    [[`a${separator}`, "b"], ["a", `${separator}b`]]
  ] as const

export const cases = [
  backingCase(
    "B8",
    "any string is a key, and a semaphore of its own",
    [],
    ({ freshKey, semaphore }) =>
      Effect.gen(function*() {
        const limit = names.length
        const suffix = freshKey()
        const semaphores = names.map((name) => semaphore(limit, name + suffix))
        for (const [index, { acquires }] of semaphores.entries()) yield* acquires("a", index + 1)
        for (const [index, { count }] of semaphores.entries()) {
          equal(yield* count, index + 1, `permits held of the key that starts with ${shown(names[index]!)}`)
        }
        for (const [index, { releases }] of semaphores.entries()) {
          equal(
            yield* releases("a", index + 1),
            index + 1,
            `permits freed of the key that starts with ${shown(names[index]!)}`
          )
        }
      })
  ),

  backingCase(
    "B8",
    "any string is an identifier, and a holder of its own",
    [],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, count, holds, isRefused, releases } = semaphore(names.length)
        for (const name of names) yield* acquires(name, 1)
        yield* isRefused("one more", 1)
        for (const [index, name] of names.entries()) {
          yield* holds(name, 1)
          equal(yield* releases(name, 1), 1, `permits freed by ${shown(name)}`)
          equal(yield* count, names.length - index - 1, "permits held")
        }
      })
  ),

  backingCase(
    "B8",
    "identifiers come back from inspect as they were",
    ["inspect"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, inspect } = semaphore(names.length)
        for (const name of names) yield* acquires(name, 1)
        const { holders } = yield* inspect
        equal(holders.map(({ identifier }) => identifier).toSorted(), names.toSorted(), "holders")
      })
  ),

  backingCase(
    "B8",
    "any string may wait, and has a place of its own",
    ["queue"],
    ({ semaphore }) =>
      Effect.gen(function*() {
        const { acquires, holds, releases, waits } = semaphore(1)
        yield* acquires("holder", 1)
        for (const [index, name] of names.entries()) {
          equal((yield* waits(name, 1)).position, index, `the position of ${shown(name)}`)
        }
        let holder = "holder"
        for (const name of names) {
          yield* releases(holder, 1)
          yield* holds(name, 1)
          holder = name
        }
      })
  ),

  backingCase(
    "B8",
    "a grant under any key, to any identifier, is heard",
    ["queue", "push"],
    ({ freshKey, listen, semaphore }) =>
      Effect.forEach(names, (name) =>
        Effect.scoped(Effect.gen(function*() {
          const { acquires, key, releases, waits } = semaphore(1, name + freshKey())
          yield* acquires("holder", 1)
          const { hearsAmongOthers } = yield* listen(key, name)
          const { token } = yield* waits(name, 1)
          yield* releases("holder", 1)
          yield* hearsAmongOthers([name, token])
        })), { discard: true })
  ),

  backingCase(
    "B8",
    "no two pairs of key and identifier collide",
    [],
    ({ freshKey, semaphore }) =>
      Effect.gen(function*() {
        for (const separator of ["_", ":", "/", "-", ".", ",", " ", "|", "\0", "#", "{}", "::"]) {
          for (const pairs of groups(separator)) {
            const prefix = freshKey()
            for (const [key, id] of pairs) {
              const { acquires, count, isRefused } = semaphore(1, prefix + key)
              yield* acquires(id, 1)
              yield* isRefused("another", 1)
              equal(yield* count, 1, `permits held by ${show([key, id])}`)
            }
            for (const [key, id] of pairs) {
              equal(yield* semaphore(1, prefix + key).releases(id, 1), 1, `permits freed by ${show([key, id])}`)
            }
          }
        }
      })
  )
]
