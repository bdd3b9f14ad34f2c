/** A connection to the file. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite"
import type { Clock } from "./clock.ts"
import { networkFileSystems } from "./fileSystems.ts"
import type { Machine } from "./machine.ts"
import type { StatementName } from "./schema.ts"
import * as Schema from "./schema.ts"

export type Sqlite = typeof import("node:sqlite")

/** How often the path is checked, at most: a check takes a tenth of the time of a transaction. */
const checkMillis = 10

export class Connection {
  private readonly database: DatabaseSync
  private readonly filename: string
  private readonly identity: string
  /** SQLite's log and shared memory. A process that goes on with deleted ones would not see what others write. */
  private readonly beside: ReadonlyArray<readonly [path: string, identity: string | undefined]>
  private checked = Number.NEGATIVE_INFINITY
  private readonly prepared = new Map<StatementName, StatementSync>()

  /** Opens the file, and creates it if need be. Throws if another process is busy with it. */
  constructor({ DatabaseSync }: Sqlite, filename: string, clock: Clock) {
    this.filename = filename
    const folder = Path.dirname(filename)
    Fs.accessSync(folder, Fs.constants.W_OK)
    refuseNetwork(filename, folder, clock.machine)
    // Each container would have a log of its own beside the file, and would not see what others write.
    if (clock.machine.isMounted(filename)) throw new Error("The file is mounted without its folder: mount the folder")
    const before = identityOf(filename)
    this.database = new DatabaseSync(filename)
    try {
      this.install(clock)
      const identity = identityOf(filename)
      if (identity === undefined || before !== undefined && before !== identity) throw new Replaced()
      this.identity = identity
      const path = Fs.realpathSync(filename)
      this.beside = [`${path}-wal`, `${path}-shm`].map((path) => [path, identityOf(path)])
    } catch (error) {
      this.close()
      throw error
    }
  }

  /**
   * Throws if the path leads to another file, or to none, as of the last milliseconds. It does not open the file. Only
   * SQLite may: by the rules of POSIX, closing a file drops all locks that the process has on it.
   */
  check(): void {
    const now = performance.now()
    if (now - this.checked < checkMillis) return
    if (identityOf(this.filename) !== this.identity) throw new Replaced()
    if (this.beside.some(([path, identity]) => identityOf(path) !== identity)) throw new Replaced()
    this.checked = now
  }

  get<A>(name: StatementName, ...inputs: ReadonlyArray<SQLInputValue>): A | undefined {
    return this.prepare(name).get(...inputs) as A | undefined
  }

  all<A>(name: StatementName, ...inputs: ReadonlyArray<SQLInputValue>): ReadonlyArray<A> {
    return this.prepare(name).all(...inputs) as ReadonlyArray<unknown> as ReadonlyArray<A>
  }

  run(name: StatementName, ...inputs: ReadonlyArray<SQLInputValue>): void {
    this.prepare(name).run(...inputs)
  }

  /** Runs a transaction, by default one that has the file to itself. Throws if another process is busy with it. */
  transaction<A>(body: () => A, begin: "begin" | "beginRead" = "begin"): A {
    this.run(begin)
    try {
      const result = body()
      this.run("commit")
      return result
    } catch (error) {
      // SQLite may have rolled back already.
      try {
        this.run("rollback")
      } catch {}
      throw error
    }
  }

  close(): void {
    try {
      this.database.close()
    } catch {}
  }

  private prepare(name: StatementName): StatementSync {
    let statement = this.prepared.get(name)
    if (statement === undefined) {
      statement = this.database.prepare(Schema.statements[name])
      this.prepared.set(name, statement)
    }
    return statement
  }

  private pragma(name: string): unknown {
    return Object.values(this.database.prepare(`pragma ${name}`).get() ?? {})[0]
  }

  private install(clock: Clock): void {
    const isOurs = () => this.pragma("application_id") === Schema.applicationId
    const isEmpty = () => this.database.prepare("select 1 from sqlite_schema limit 1").get() === undefined
    // In this order: another process may create the tables meanwhile.
    if (!isEmpty() && !isOurs()) throw new Error("The file is a database of something else")
    if (this.pragma("journal_mode = wal") !== "wal") throw new Error("The file system does not allow WAL mode")
    // A crash of the machine may lose the last transactions. No holder survives it, and numbers go on from the time.
    this.database.exec("pragma synchronous = normal")
    if (!isOurs()) {
      this.transaction(() => {
        if (!isEmpty()) return
        this.database.exec(Schema.create)
        const { boot, last, start } = clock.first
        this.run("startClock", boot, start, last)
      })
    }
    const version = this.pragma("user_version")
    if (version !== Schema.version) {
      throw new Error(`The file has version ${version}, but this package knows version ${Schema.version}`)
    }
  }
}

/** Returns whether this is SQLite's error while another process writes, or opens or closes the file. */
export const isBusy = (error: unknown): boolean =>
  error instanceof Error && "errcode" in error && (Number(error.errcode) & 0xff) === 5

export class Replaced extends Error {
  override readonly message = "The file was deleted or replaced while it was in use: what was held in it is lost"
}

const identityOf = (filename: string): string | undefined => {
  const stats = Fs.statSync(filename, { throwIfNoEntry: false })
  return stats && `${stats.dev} ${stats.ino}`
}

const refuseNetwork = (filename: string, folder: string, machine: Machine): void => {
  const name = networkFileSystems.get(machine.fileSystem(Fs.existsSync(filename) ? filename : folder))
  if (name !== undefined || folder.startsWith("\\\\")) {
    throw new Error(
      `The file is on a network file system${name ? ` (${name})` : ""}, where locks and memory are not shared`
    )
  }
}
