/** The file as one process uses it. It is opened anew after trouble. */
import { Clock } from "./clock.ts"
import type { ClockRow } from "./clock.ts"
import type { Sqlite } from "./connection.ts"
import { Connection, isBusy, Replaced } from "./connection.ts"
import type { Machine } from "./machine.ts"
import type { Listener } from "./transaction.ts"
import { Transaction } from "./transaction.ts"

export interface Reader {
  readonly connection: Connection
  /** The store's time in microseconds. */
  readonly now: number
}

export class Store {
  readonly filename: string
  readonly machine: Machine
  private readonly sqlite: Sqlite
  private readonly owner: string
  private clock: Clock
  private connection: Connection | undefined
  private readonly worksAgain: () => void
  private hasFailed = false
  private isClosed = false

  /** Calls `worksAgain` when the file works again after trouble: something may have been missed. */
  constructor(sqlite: Sqlite, filename: string, machine: Machine, owner: string, worksAgain: () => void) {
    this.sqlite = sqlite
    this.filename = filename
    this.machine = machine
    this.owner = owner
    this.clock = new Clock(machine)
    this.worksAgain = worksAgain
  }

  /** Runs a transaction that has the file to itself. Returns `undefined` if another process has it. */
  write<A>(
    listener: Listener | undefined,
    body: (transaction: Transaction) => A
  ): readonly [A, Transaction] | undefined {
    return this.use((connection) =>
      connection.transaction(() => {
        const transaction = new Transaction(connection, this.clock, this.owner, listener)
        const result = body(transaction)
        transaction.end()
        return [result, transaction] as const
      })
    )
  }

  /** Reads the last committed state. Returns `undefined` if another process is opening or closing the file. */
  read<A>(body: (reader: Reader) => A): A | undefined {
    return this.use((connection) =>
      connection.transaction(() => {
        const { now } = this.clock.read(connection.get<ClockRow>("clock") ?? this.clock.first)
        return body({ connection, now })
      }, "beginRead")
    )
  }

  close(): void {
    this.isClosed = true
    this.connection?.close()
    this.connection = undefined
  }

  /** Uses the connection. After any failure, the file is opened anew: it may be another one, or work again. */
  private use<A>(body: (connection: Connection) => A): A | undefined {
    try {
      this.connection?.check()
      const result = body(this.connection ??= this.open())
      // Only after it was used: a look that comes after the opening alone may fail, and open it anew, again and again.
      if (this.hasFailed) queueMicrotask(this.worksAgain)
      this.hasFailed = false
      return result
    } catch (error) {
      if (isBusy(error)) return undefined
      this.hasFailed = true
      this.connection?.close()
      this.connection = undefined
      if (error instanceof Replaced) this.clock = new Clock(this.machine)
      throw new Error(`${this.filename}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
  }

  private open(): Connection {
    if (this.isClosed) throw new Error("The layer is closed")
    return new Connection(this.sqlite, this.filename, this.clock)
  }
}
