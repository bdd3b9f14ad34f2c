/**
 * The exit codes of the command line itself. It passes the exit code of a command through, so for itself it uses codes that programs
 * seldom use: above 128 + 64, the last signal, and below 200, where those of systemd begin. Other usual codes are 1, 2, 64 to 78
 * (sysexits), 124 to 127 (timeout, shells) and 255.
 */
import * as Data from "effect/Data"

export const codes = {
  /** `revoke` found no such holder or waiter. */
  nobody: 1,
  /** A defect of the program: EX_SOFTWARE. */
  defect: 70,
  /** The command can't be executed. */
  notExecutable: 126,
  /** There is no such command. */
  notFound: 127,
  /** The permits were not free, with `--no-wait`. */
  busy: 193,
  /** The permits were not acquired within `--timeout`. */
  timedOut: 194,
  /** The permits were lost, and the command was stopped. */
  lost: 195,
  /** The store failed, can't be reached, or lacks what was asked for. */
  store: 196,
  /** The arguments are wrong, or name no store. */
  misuse: 197
}

/** Ends the program: with an exit code, and a message for the standard error if there is something to say. */
export class Exit extends Data.TaggedError("Exit")<{ readonly code: number; readonly message: string }> {}

export const exit = (code: keyof typeof codes, message: string): Exit => new Exit({ code: codes[code], message })

/** Returns the exit code that a shell gives to a process that a signal ended. */
export const afterSignal = (signal: number): number => 128 + signal
