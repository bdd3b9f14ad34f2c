/** What is measured: a lock library, or a floor, behind one small interface. */

export type StoreName = "memory" | "redis" | "postgres" | "etcd" | "sqlite"

export interface Setting {
  readonly url: string
  readonly ttlMillis: number
  readonly limit: number
  /** How many callers hold or wait at once: peers that need a connection for each open as many. */
  readonly callers: number
}

export interface Ask {
  readonly key: string
  readonly permits: number
  /** The hold must outlast its ttl, so it is extended in the way that the library offers. */
  readonly long?: boolean
}

/** One caller. It asks, holds and releases, as long as `next` has something to ask for. */
export interface Worker {
  readonly next: () => Ask | undefined
  readonly holding: () => void | Promise<void>
  readonly released?: () => void
}

export interface Client {
  /** Ends when `next` returns nothing. Each library runs its workers in its own way: in fibers, or in promises. */
  readonly run: (worker: Worker) => Promise<void>
  /** How many wait for a key, where the library or its store can tell. */
  readonly waiting?: (key: string) => Promise<number>
}

export type ScenarioName =
  | "cycle"
  | "drain"
  | "loop"
  | "mixed"
  | "idleHolds"
  | "idleWaiters"
  | "crash"
  | "permits"
  | "holders"
  | "keys"
  | "processes"

export interface Subject {
  readonly id: string
  readonly store: StoreName
  readonly kind: "ours" | "peer" | "floor"
  /** The library's options that differ from its defaults, and why. */
  readonly options: string
  /** What it lacks, if anything. A scenario that needs it is then shown as not offered. */
  readonly lacks: ReadonlyArray<"limit" | "permits" | "extension">
  /** Floors stand for one part of the work, so only these scenarios make sense. */
  readonly only?: ReadonlyArray<ScenarioName>
  /** Redis: the commands that its client sends, as opposed to those that its scripts call. */
  readonly commands?: ReadonlyArray<string>
  readonly open: (setting: Setting) => Promise<Client>
}

/** Makes a client from a function that acquires, and resolves to one that releases. */
export const promiseClient = (acquire: (ask: Ask) => Promise<() => Promise<unknown>>): Client => ({
  run: async ({ holding, next, released }) => {
    for (let ask = next(); ask !== undefined; ask = next()) {
      const release = await acquire(ask)
      try {
        const work = holding()
        if (work !== undefined) await work
      } finally {
        await release()
      }
      released?.()
    }
  }
})
