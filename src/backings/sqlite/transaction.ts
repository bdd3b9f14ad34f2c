/** One transaction on the file: the operations of a batch, the numbers that they issue, and the grants. */
import type { SQLInputValue } from "node:sqlite"
import type { Clock, ClockRow } from "./clock.ts"
import type { Connection } from "./connection.ts"
import type { StatementName } from "./schema.ts"
import { Semaphore } from "./semaphore.ts"

/** The listener of a process: its name, and whether it can be woken now. */
export interface Listener {
  readonly name: string
  readonly hears: boolean
}

export interface Granted {
  /** Encoded. */
  readonly key: string
  readonly token: number
}

/** How long a revocation is kept. A holder that does not look within this time learns of it at its next refresh. */
const revocationMicros = 10_000_000

export const oldestRevocation = (now: number): number => now - revocationMicros

export class Transaction {
  /** The store's time in microseconds, while nobody else can write. */
  readonly now: number
  readonly owner: string
  readonly wall: () => number
  /** The name of this process as a listener; null if its waiters poll. */
  readonly listener: string | null
  /** Whether this process can be woken now. */
  readonly hears: boolean
  /** The waiters of this process that were granted. */
  readonly granted: Array<Granted> = []
  /** The listeners of other processes whose waiters were granted. */
  readonly listeners = new Set<string>()
  /** Whether something was revoked. */
  revokes = false
  private readonly connection: Connection
  private readonly semaphores = new Map<string, Semaphore>()
  private last: number
  private changed = false

  constructor(connection: Connection, clock: Clock, owner: string, own: Listener | undefined) {
    this.connection = connection
    this.owner = owner
    this.wall = clock.machine.wall
    this.listener = own?.name ?? null
    this.hears = own?.hears ?? false
    const stored = connection.get<ClockRow>("clock")
    const row = stored ?? clock.first
    const { now, start } = clock.read(row)
    this.now = now
    this.last = row.last
    if (start !== stored?.start) this.run("startClock", clock.machine.boot, start, row.last)
  }

  get<A>(name: StatementName, ...inputs: ReadonlyArray<SQLInputValue>): A | undefined {
    return this.connection.get<A>(name, ...inputs)
  }

  all<A>(name: StatementName, ...inputs: ReadonlyArray<SQLInputValue>): ReadonlyArray<A> {
    return this.connection.all<A>(name, ...inputs)
  }

  run(name: StatementName, ...inputs: ReadonlyArray<SQLInputValue>): void {
    this.changed = true
    this.connection.run(name, ...inputs)
  }

  /** Returns a semaphore, without what has expired. */
  semaphore(key: string): Semaphore {
    let semaphore = this.semaphores.get(key)
    if (semaphore === undefined) {
      semaphore = new Semaphore(this, key)
      this.semaphores.set(key, semaphore)
    }
    return semaphore
  }

  /** Issues the next number: larger than all before it, and not below the time. */
  issue(): number {
    return this.last = Math.max(this.last + 1, this.now)
  }

  /**
   * Remembers to notify a waiter of its grant. Returns the listener of another process, which must look for it in the
   * file.
   */
  notify(key: string, token: number, listener: string | null): string | null {
    if (listener === null) return null
    if (listener !== this.listener) {
      this.listeners.add(listener)
      return listener
    }
    this.granted.push({ key, token })
    return null
  }

  /** Records a revocation, for all processes to see. */
  revoke(key: string, id: string): void {
    this.revokes = true
    this.run("revoke", this.issue(), key, id)
  }

  /** Forgets revocations that all processes have had the time to see. */
  forgetRevocations(): void {
    this.run("forgetRevocations", oldestRevocation(this.now))
  }

  /** Writes the sums, and the last time or number. */
  end(): void {
    for (const semaphore of this.semaphores.values()) semaphore.save()
    if (this.changed) this.run("advance", Math.max(this.last, this.now))
  }
}
