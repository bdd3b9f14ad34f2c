/** `ls`: the keys that have holders or waiters. */
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import { Command, Flag } from "effect/cli"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import { isatty } from "node:tty"
import { DistributedSemaphoreBacking } from "../core/Backing.ts"
import { exit } from "./exits.ts"
import * as Flags from "./flags.ts"
import { print, visible } from "./output.ts"

/** Waits for a key press after each screenful, and returns whether to go on. */
const pager = Effect.map(Terminal.Terminal, ({ display, readInput, rows }) => {
  let printed = 0
  return Effect.gen(function*() {
    printed++
    // A terminal may not know its size.
    const page = ((yield* rows) || 24) - 1
    if (printed % Math.max(page, 1) !== 0) return true
    yield* display("-- any key: more, q: quit --")
    const input = yield* Effect.scoped(Effect.option(Effect.flatMap(readInput, Queue.take)))
    yield* display("\r\x1b[K")
    return Option.exists(input, ({ key }) => key.name !== "q" && key.name !== "escape" && !key.ctrl)
  }).pipe(Effect.orDie)
})

export const ls = Command.make(
  "ls",
  { json: Flags.json.pipe(Flag.withDescription("Print each key as a JSON string, in a line of its own")) },
  Effect.fnUntraced(function*({ json }) {
    const { keys } = yield* DistributedSemaphoreBacking
    if (keys === undefined) return yield* exit("store", "This store can't list its keys")
    const list = (goesOn: Effect.Effect<boolean>) =>
      Stream.runForEachWhile(keys, (key) => {
        print(json ? JSON.stringify(key) : visible(key))
        return goesOn
      })
    if (!isatty(0) || !isatty(1)) return yield* list(Effect.succeed(true))
    yield* Effect.provide(Effect.flatMap(pager, list), NodeTerminal.layer)
  })
).pipe(
  Command.withDescription(
    `List the keys that have holders or waiters, page by page, in the order of the store. In a terminal, each
  screenful waits for a key press.`
  ),
  Command.withShortDescription("List the keys that have holders or waiters"),
  Command.withExamples([
    { command: "effect-distributed-lock ls | sort | head" },
    { command: "effect-distributed-lock ls --json | jq -r ." }
  ])
)
