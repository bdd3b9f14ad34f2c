/** The program: its commands, what they need, and how it ends. */
import * as NodeChildProcessSpawner from "@effect/platform-node/NodeChildProcessSpawner"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeStdio from "@effect/platform-node/NodeStdio"
import * as Cause from "effect/Cause"
import { CliConfig, CliError, Command, GlobalFlag } from "effect/cli"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Terminal from "effect/Terminal"
import { readFileSync } from "node:fs"
import { constants } from "node:os"
import { afterSignal, codes } from "./exits.ts"
import { exitOf } from "./failures.ts"
import * as Flags from "./flags.ts"
import { look } from "./look.ts"
import { ls } from "./ls.ts"
import * as Output from "./output.ts"
import { revoke } from "./revoke.ts"
import { run } from "./run.ts"
import * as Signals from "./signals.ts"
import * as Store from "./store.ts"
import { watch } from "./watch.ts"

const shared = Command.make(Output.name).pipe(Command.withSharedFlags(Flags.store))

const storeThat = (creates: boolean) => Layer.unwrap(Effect.map(shared, (flags) => Store.layer(flags, creates)))

/** A command that only looks, perhaps with a wrong URL, must create nothing. */
const store = storeThat(false)

const root = shared.pipe(
  Command.withDescription("Hold permits of a distributed semaphore from a shell, see who holds them, and intervene"),
  Command.withSubcommands([
    Command.provide(run, storeThat(true)),
    Command.provide(look, store),
    Command.provide(watch, store),
    Command.provide(revoke, store),
    Command.provide(ls, store)
  ])
)

/** It has no terminal: one would open the standard input, which belongs to the command that runs. */
const environment = Layer.mergeAll(
  Layer.provideMerge(
    NodeChildProcessSpawner.layer,
    Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeStdio.layer)
  ),
  Layer.succeed(Terminal.Terminal, {} as Terminal.Terminal),
  CliConfig.layer({
    builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel]
  }),
  Output.layer
)

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))

/** Runs the program, and ends the process. */
export const main = (args: ReadonlyArray<string>): void => {
  // Keeps the process alive until the program ends it, even when nothing seems to be left to wait for.
  setInterval(() => {}, 2 ** 30)
  let signal: NodeJS.Signals | undefined
  const program = Effect.runFork(Effect.provide(Command.runWith(root, { version })(args), environment))
  Signals.listen((ending) => {
    signal = ending
    program.interruptUnsafe()
  })
  program.addObserver((exit) => process.exit(codeOf(exit, signal)))
}

const codeOf = (exit: Exit.Exit<void, unknown>, signal: NodeJS.Signals | undefined): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return afterSignal(constants.signals[signal ?? "SIGINT"])
  // It has been printed already.
  if (CliError.isCliError(Cause.squash(exit.cause))) return codes.misuse
  const { code, message } = exitOf(exit.cause)
  if (message !== "") Output.say(message)
  return code
}
