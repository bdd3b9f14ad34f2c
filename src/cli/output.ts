/** Writes results to the standard output, and everything else to the standard error. */
import { CliOutput } from "effect/cli"
import * as Console from "effect/Console"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { writeSync } from "node:fs"
import { afterSignal } from "./exits.ts"
import { redact } from "./redact.ts"

export const name = "effect-distributed-lock"

/**
 * Writes without the streams of `process`: they would make a pipe non-blocking. The command that runs shares the pipe, and most programs
 * do not expect that.
 */
const write = (file: 1 | 2, text: string): void => {
  let rest = Buffer.from(text)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(file, rest))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // The reader has gone, as `head` does: SIGPIPE ends a program that does not handle it.
      if (code === "EPIPE" && file === 1) process.exit(afterSignal(13))
      // EAGAIN: another process made it non-blocking, and it is full.
      if (code !== "EAGAIN") return
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
}

export const print = (text: string): void => write(1, `${redact(text)}\n`)

export const say = (text: string): void => write(2, `${name}: ${redact(text)}\n`)

const console: Console.Console = {
  ...globalThis.console,
  log: (text: string) => print(text),
  error: (text: string) => say(text)
}

/** Prints a line for each wrong argument, not pages of help on the standard output. */
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Console.error(
        [
          ...event.errors.map(({ message }) => message),
          `Try: ${event.commandPath.join(" ")} --help`
        ].join("\n")
      )
      : CliOutput.defaultPresenter.present(event)
}

export const layer = Layer.mergeAll(
  Layer.succeed(Console.Console, console),
  CliOutput.layerPresenter(presenter),
  Logger.layer([
    Logger.make(({ logLevel, message }) => say(`${logLevel.toLowerCase()}: ${[message].flat().join(" ")}`))
  ])
)

/** Makes the text of others safe for a terminal: escapes control characters, and those that turn the direction of writing. */
export const visible = (text: string): string =>
  text.replace(/[\p{C}\u2028\u2029]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
