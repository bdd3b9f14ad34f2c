/** `watch`: the holders and the line of a key, as they change. */
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import { Command } from "effect/cli"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import { isatty } from "node:tty"
import type { SemaphoreState } from "../core/Backing.ts"
import { failed } from "./failures.ts"
import * as Flags from "./flags.ts"
import { lookAt } from "./look.ts"
import { News } from "./news.ts"
import { print, visible } from "./output.ts"
import { redact } from "./redact.ts"
import { describe } from "./table.ts"

const clock = (): string => new Date().toISOString().slice(11, 19)

/** Prints each change with its time, for a file or a pipe. */
const plain = (key: string, changes: Stream.Stream<SemaphoreState, unknown>) =>
  Stream.runForEach(changes, (state) => Effect.sync(() => print(`${clock()}Z ${describe(key, state).join("\n")}\n`)))

const enterScreen = "\x1b[?1049h\x1b[?25l"
const leaveScreen = "\x1b[?25h\x1b[?1049l"

/** Fills the terminal from its top, a line per row. A line that is too long is cut off at the edge. */
const screenOf = (lines: ReadonlyArray<string>, rows: number): string =>
  `\x1b[H\x1b[?7l${lines.slice(0, rows).map((line) => `${line}\x1b[K`).join("\r\n")}\x1b[J\x1b[?7h`

const paint = (line: string): string =>
  line.startsWith("holds") ? `\x1b[32m${line}\x1b[0m` : line.startsWith("waits") ? `\x1b[33m${line}\x1b[0m` : line

const live = Effect.fnUntraced(
  function*(
    key: string,
    changes: Stream.Stream<SemaphoreState, unknown>
  ) {
    const terminal = yield* Terminal.Terminal
    const display = (text: string) => Effect.orDie(terminal.display(redact(text)))
    const news = new News()
    let shown: { readonly state: SemaphoreState; readonly at: number } | undefined
    let trouble = ""

    const draw = Effect.gen(function*() {
      // A terminal may not know its size.
      const rows = (yield* terminal.rows) || 24
      const passedMillis = shown && performance.now() - shown.at
      const table = shown
        ? describe(key, shown.state, { most: Math.max(1, rows - 7 - news.lines.length), passedMillis })
        : [`${visible(key)}: …`]
      const lines = [`${clock()}Z  ${table[0]}`, "", ...table.slice(1).map(paint), "", ...news.lines]
      yield* display(screenOf([...lines, "", `\x1b[2m${trouble || "q: quit"}\x1b[0m`], rows))
    })
    const follow = Stream.runForEach(changes, (state) => {
      shown = { state, at: performance.now() }
      trouble = ""
      news.see(state, clock())
      return draw
    }).pipe(
      Effect.tapError((error) => {
        trouble = `${failed(error).message}. Trying again.`
        return draw
      }),
      // A person who watches wants to see when the store is back.
      Effect.retry(Schedule.spaced("1 second"))
    )
    const quit = Effect.flatMap(terminal.readInput, (keys) =>
      Effect.ignore(Effect.repeat(Queue.take(keys), {
        until: ({ key }) => key.name === "q" || key.name === "escape" || key.ctrl
      })))
    const count = Effect.repeat(draw, Schedule.spaced("200 millis"))
    yield* Effect.acquireRelease(display(enterScreen), () => display(leaveScreen))
    yield* Effect.raceAllFirst([quit, follow, count])
  },
  Effect.scoped,
  Effect.provide(NodeTerminal.layer)
)

export const watch = Command.make(
  "watch",
  { key: Flags.key },
  Effect.fnUntraced(function*({ key }) {
    const { changes, inspect } = yield* lookAt(key)
    // Fails at once if the store does.
    yield* inspect
    if (!isatty(1)) return yield* plain(key, changes)
    // A refresh changes nothing but the time that is left.
    const refreshes = Stream.fromEffectSchedule(inspect, Schedule.spaced("1 second"))
    yield* live(key, Stream.merge(changes, refreshes))
  })
).pipe(
  Command.withDescription(
    `Watch who holds permits of a key and who waits: a live view in a terminal, which q ends, and each change, with
  its time, in a file or a pipe.`
  ),
  Command.withShortDescription("Watch holders and waiters, live"),
  Command.withExamples([{ command: "effect-distributed-lock watch nightly-report" }])
)
