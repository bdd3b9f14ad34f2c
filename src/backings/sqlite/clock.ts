/**
 * The store's clock: the monotonic clock of the machine, which all its processes share. So a wall clock that jumps
 * harms no lease.
 *
 * The file keeps how far the store's time is ahead of that clock. After a reboot, the store's time goes on from the
 * wall clock, or, if that is behind, from the last time that the file has seen: it never goes back.
 */
import type { Machine } from "./machine.ts"

/** What the file knows of time, in microseconds. */
export interface ClockRow {
  readonly boot: string
  /** The store's time when the monotonic clock was 0. */
  readonly start: number
  /** The last time or number that was written. */
  readonly last: number
}

/** How far numbers may be ahead of the time, because several may be issued in a microsecond. */
const tolerance = 1_000_000

export class Clock {
  readonly machine: Machine
  /** Whether this process has seen its own machine's time in the file. While it lives, the machine can't restart. */
  private isOurs = false
  private refusal: Error | undefined

  constructor(machine: Machine) {
    this.machine = machine
  }

  /** The row of a new file: the store's time begins as the wall clock's. */
  get first(): ClockRow {
    const { boot, monotonic, wall } = this.machine
    const now = wall()
    return { boot, start: now - monotonic(), last: now }
  }

  /** Returns the store's time and its start, which is not the row's if the machine has restarted. */
  read({ boot, last, start }: ClockRow): { readonly now: number; readonly start: number } {
    if (this.refusal !== undefined) throw this.refusal
    const { machine } = this
    const now = machine.monotonic() + start
    const isBehind = now < last - tolerance
    if (boot === machine.boot && !isBehind) {
      this.isOurs = true
      return { now: Math.max(now, last), start }
    }
    // A clock that is behind is another machine's, except where the machine has no name for its start: there it may
    // have restarted.
    if (this.isOurs || boot === machine.boot && boot !== "") throw this.refusal = new Error(foreign)
    const begin = Math.max(last, machine.wall())
    return { now: begin, start: begin - machine.monotonic() }
  }
}

const foreign =
  "Another machine, or a process with another monotonic clock, uses the file, too: their times can't be compared"
