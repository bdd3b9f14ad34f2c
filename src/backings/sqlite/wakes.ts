/**
 * Wakes other processes whose waiters were granted. SQLite can't do this, so processes watch files beside the database.
 *
 * A process that waits has a name, and watches a file. It may share this file with others: there are few, and none is
 * ever removed. A process that grants writes the waiter's listener, which is that name, to its row, and then touches
 * the file. The process that wakes reads once which of its waiters are meant.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Revocation } from "../../core/Backing.ts"
import { FencingToken } from "../../core/Backing.ts"
import type { Listener } from "./transaction.ts"
import { Watch } from "./watch.ts"

type Notify = (event: void | FencingToken) => void

const files = 256

export class Wakes {
  private readonly filename: string
  private folder: string | undefined
  private readonly name: string
  private readonly look: () => void
  private readonly listeners = new Map<string, Set<Notify>>()
  private readonly revocationListeners = new Set<(revocation: Revocation) => void>()
  private readonly watch: Watch
  private isToLook = false

  /** Calls `look` when the process was woken. */
  constructor(filename: string, look: () => void) {
    this.filename = filename
    const file = Math.floor(Math.random() * files)
    this.name = `${file}:${crypto.randomUUID()}`
    this.look = look
    this.watch = new Watch({
      path: () => {
        const path = this.path(file)
        Fs.mkdirSync(Path.dirname(path), { recursive: true })
        Fs.writeFileSync(path, ".", { flag: "a" })
        return path
      },
      stands: () => this.tellAll(),
      changed: () => this.hear()
    })
  }

  get listener(): Listener {
    return { name: this.name, hears: this.watch.stands }
  }

  /** B7. The first listener opens the watch. */
  listen(key: string): Stream.Stream<void | FencingToken> {
    return Stream.callback<void | FencingToken>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          this.watch.open()
          const notify: Notify = (event) => void Queue.offerUnsafe(queue, event)
          this.listeners.set(key, (this.listeners.get(key) ?? new Set()).add(notify))
          if (this.watch.stands) notify()
          return notify
        }),
        (notify) =>
          Effect.sync(() => {
            const ofKey = this.listeners.get(key)
            if (ofKey?.delete(notify) && ofKey.size === 0) this.listeners.delete(key)
          })
      )
    )
  }

  /** B13. */
  get revocations(): Stream.Stream<Revocation> {
    return Stream.callback<Revocation>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          this.watch.open()
          const notify = (revocation: Revocation) => void Queue.offerUnsafe(queue, revocation)
          this.revocationListeners.add(notify)
          return notify
        }),
        (notify) => Effect.sync(() => this.revocationListeners.delete(notify))
      )
    )
  }

  tell(key: string, token: number): void {
    this.listeners.get(key)?.forEach((notify) => notify(FencingToken(BigInt(token))))
  }

  tellRevoked(revocation: Revocation): void {
    for (const notify of this.revocationListeners) notify(revocation)
  }

  /** Makes all waiters look, because something may have been missed. */
  tellAll(): void {
    for (const ofKey of this.listeners.values()) for (const notify of ofKey) notify()
  }

  /** Watches anew and makes all waiters look, because the path may lead to another file now. */
  beginAnew(): void {
    this.folder = undefined
    this.watch.beginAnew()
  }

  wake(names: Iterable<string>): void {
    for (const name of names) touch(() => this.path(Number.parseInt(name)))
  }

  close(): void {
    this.watch.close()
  }

  private path(file: number): string {
    this.folder ??= folderOf(this.filename)
    return Path.join(this.folder, String(file))
  }

  /** Looks once for several touches. */
  private hear(): void {
    if (this.isToLook) return
    this.isToLook = true
    setImmediate(() => {
      this.isToLook = false
      this.look()
    })
  }
}

/** Wakes all processes that wait or listen. */
export const wakeAll = (filename: string): void => {
  try {
    const folder = folderOf(filename)
    for (const file of Fs.readdirSync(folder)) touch(() => Path.join(folder, file))
  } catch {}
}

/** Emits whenever any process has written to the file: SQLite writes to its log first, so this watches the log. */
export const writesTo = (filename: string): Stream.Stream<void> =>
  Stream.callback<void>((queue) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const emit = () => void Queue.offerUnsafe(queue, undefined)
        const watch = new Watch({ path: () => `${Fs.realpathSync(filename)}-wal`, stands: emit, changed: emit })
        watch.open()
        return watch
      }),
      (watch) => Effect.sync(() => watch.close())
    ), { bufferSize: 1, strategy: "sliding" })

/** Returns the folder, which is the same whatever links lead to the file. */
const folderOf = (filename: string): string => `${Fs.realpathSync(filename)}-wake`

/** Touches a file. If this fails, its processes are not woken, and look by themselves before long. */
const touch = (path: () => string): void => {
  try {
    const file = Fs.openSync(path(), "r+")
    try {
      Fs.writeSync(file, ".", 0)
    } finally {
      Fs.closeSync(file)
    }
  } catch {}
}
