/** Watches a file, and one that takes its place. */
import * as Fs from "node:fs"

export interface Watched {
  /** The path of a file that is there; it may be created just now. Throws if it is not. */
  readonly path: () => string
  /** It is watched from now on: something may have been missed before. */
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

  /** For good. */
  close(): void {
    this.isOpen = true
    this.fall()
    clearTimeout(this.retry)
  }

  private watch(): void {
    try {
      // One that is removed or replaced is watched no longer.
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
