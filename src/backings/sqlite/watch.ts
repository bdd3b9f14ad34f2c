/** Watches a file, and any file that takes its place. */
import * as Fs from "node:fs"

export interface Watched {
  /** Returns the path of a file that exists, and may create it. Throws if there is none. */
  readonly path: () => string
  /** Called when the watch begins: something may have been missed before. */
  readonly stands: () => void
  readonly changed: () => void
}

const retryMillis = 1000

export class Watch {
  private readonly watched: Watched
  private watcher: Fs.FSWatcher | undefined
  private retry: NodeJS.Timeout | undefined
  private isOpen = false

  constructor(watched: Watched) {
    this.watched = watched
  }

  get stands(): boolean {
    return this.watcher !== undefined
  }

  open(): void {
    if (this.isOpen) return
    this.isOpen = true
    this.watch()
  }

  /** Watches what the path leads to now. If the watch has fallen, it begins anew before long anyway. */
  beginAnew(): void {
    if (!this.stands) return
    this.fall()
    this.watch()
  }

  /** Closes the watch for good. */
  close(): void {
    this.isOpen = true
    this.fall()
    clearTimeout(this.retry)
  }

  private watch(): void {
    try {
      // The watcher of a file that was removed or replaced hears nothing any more.
      this.watcher = Fs.watch(
        this.watched.path(),
        { persistent: false },
        (event) => event === "rename" ? this.watchAgain() : this.watched.changed()
      )
      this.watcher.on("error", () => this.watchAgain())
      this.watched.stands()
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
}
