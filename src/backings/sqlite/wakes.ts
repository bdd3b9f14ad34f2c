/**
 * Wakes other processes in which somebody was granted. SQLite can't, so it is done by files beside the database that are watched.
 *
 * A process that waits has a name and watches a file, which it may share with others: there are few of these, and none is ever
 * removed. Whoever grants writes the name to the waiter's row, and then touches the file of that name. Who wakes reads once whom of
 * its waiters it means.
 */
import { Effect, Queue, Stream } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { FencingToken } from "../../core/Backing.ts"
import type { Listener } from "./transaction.ts"

type Notify = (event: void | FencingToken) => void

const files = 256

const retryMillis = 1000

export class Wakes {
  private readonly filename: string
  private folder: string | undefined
  private readonly file: number
  private readonly name: string
  private readonly look: () => void
  private readonly listeners = new Map<string, Set<Notify>>()
  private watcher: Fs.FSWatcher | undefined
  private retry: NodeJS.Timeout | undefined
  private isOpen = false
  private isToLook = false

  /** `look` is called when the process was woken. */
  constructor(filename: string, look: () => void) {
    this.filename = filename
    this.file = Math.floor(Math.random() * files)
    this.name = `${this.file}:${crypto.randomUUID()}`
    this.look = look
  }

  get listener(): Listener {
    return { name: this.name, hears: this.watcher !== undefined }
  }

  /** B7. The first who listens opens the watcher. */
  listen(key: string): Stream.Stream<void | FencingToken> {
    return Stream.callback<void | FencingToken>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          this.open()
          const notify: Notify = (event) => void Queue.offerUnsafe(queue, event)
          this.listeners.set(key, (this.listeners.get(key) ?? new Set()).add(notify))
          if (this.watcher !== undefined) notify()
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

  tell(key: string, token: number): void {
    this.listeners.get(key)?.forEach((notify) => notify(FencingToken(BigInt(token))))
  }

  /** Something may have been missed: all look. */
  tellAll(): void {
    for (const ofKey of this.listeners.values()) for (const notify of ofKey) notify()
  }

  /** A process that can't be woken looks by itself before long. */
  wake(names: Iterable<string>): void {
    for (const name of names) {
      try {
        touch(this.path(Number.parseInt(name)))
      } catch {}
    }
  }

  close(): void {
    this.isOpen = true
    this.fall()
    clearTimeout(this.retry)
  }

  private open(): void {
    if (this.isOpen) return
    this.isOpen = true
    this.watch()
  }

  private watch(): void {
    try {
      const path = this.path(this.file)
      Fs.mkdirSync(Path.dirname(path), { recursive: true })
      Fs.writeFileSync(path, ".", { flag: "a" })
      // One that is removed or replaced is watched no longer.
      this.watcher = Fs.watch(
        path,
        { persistent: false },
        (event) => event === "rename" ? this.watchAgain() : this.hear()
      )
      this.watcher.on("error", () => this.watchAgain())
      this.tellAll()
    } catch {
      this.watchAgain()
    }
  }

  private watchAgain(): void {
    this.fall()
    clearTimeout(this.retry)
    this.retry = setTimeout(() => this.watch(), retryMillis)
    this.retry.unref()
  }

  private fall(): void {
    this.watcher?.close()
    this.watcher = undefined
  }

  /** Several touches may be one look. */
  private hear(): void {
    if (this.isToLook) return
    this.isToLook = true
    setImmediate(() => {
      this.isToLook = false
      this.look()
    })
  }

  /** Whatever links lead to the file, all mean the same folder. */
  private path(file: number): string {
    this.folder ??= `${Fs.realpathSync(this.filename)}-wake`
    return Path.join(this.folder, String(file))
  }
}

const touch = (path: string): void => {
  const file = Fs.openSync(path, "r+")
  try {
    Fs.writeSync(file, ".", 0)
  } finally {
    Fs.closeSync(file)
  }
}
