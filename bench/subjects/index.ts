/** All subjects. Their libraries are loaded when they are opened, so that a process has no more than its own. */
import type { Subject } from "./subject.ts"

const ours = { kind: "ours", options: "defaults", lacks: [] } as const
const scripts = ["eval", "evalsha"]
const subscriptions = ["subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"]
const commands = [...scripts, "fcall", ...subscriptions]

const memory: ReadonlyArray<Subject> = [
  {
    ...ours,
    id: "ours",
    store: "memory",
    open: async (setting) => (await import("./ours/memory.ts")).open(setting)
  },
  {
    id: "floor: Effect's Semaphore",
    store: "memory",
    kind: "floor",
    options: "knows no leases, and nothing outside the process",
    lacks: [],
    only: ["cycle", "drain", "loop", "mixed", "permits", "keys"],
    open: async (setting) => (await import("./floors/memory.ts")).effectSemaphore(setting)
  }
]

const redis: ReadonlyArray<Subject> = [
  {
    ...ours,
    id: "ours",
    store: "redis",
    commands,
    open: async (setting) => (await import("./ours/redis.ts")).open(setting)
  },
  {
    id: "0.0.11, push",
    store: "redis",
    kind: "peer",
    options: "pushBasedAcquireEnabled: true (its default)",
    lacks: [],
    commands,
    open: async (setting) => (await import("./peers/version0011.ts")).open(setting, true)
  },
  {
    id: "0.0.11, poll",
    store: "redis",
    kind: "peer",
    options: "pushBasedAcquireEnabled: false",
    lacks: [],
    commands,
    open: async (setting) => (await import("./peers/version0011.ts")).open(setting, false)
  },
  {
    id: "redis-semaphore, Mutex",
    store: "redis",
    kind: "peer",
    options: "acquireTimeout: for ever (10 s by default)",
    lacks: ["limit"],
    commands: [...commands, "set"],
    open: async (setting) => (await import("./peers/redis.ts")).mutex(setting)
  },
  {
    id: "redis-semaphore, Semaphore",
    store: "redis",
    kind: "peer",
    options: "acquireTimeout: for ever (10 s by default)",
    lacks: ["permits"],
    commands: [...commands, "zrem"],
    open: async (setting) => (await import("./peers/redis.ts")).semaphore(setting)
  },
  {
    id: "redis-semaphore, MultiSemaphore",
    store: "redis",
    kind: "peer",
    options:
      "acquireTimeout: for ever (10 s by default); where several permits are asked for, elsewhere its Semaphore is",
    lacks: [],
    only: ["mixed", "permits"],
    commands,
    open: async (setting) => (await import("./peers/redis.ts")).multiSemaphore(setting)
  },
  {
    id: "redlock 5",
    store: "redis",
    kind: "peer",
    options: "retryCount: -1 (10 by default, after which it fails); `using` where a hold must be extended",
    lacks: ["limit"],
    commands,
    open: async (setting) => (await import("./peers/redis.ts")).redlock(setting)
  },
  {
    id: "simple-redis-mutex",
    store: "redis",
    kind: "peer",
    options: "defaults, on the client `redis`",
    lacks: ["limit", "extension"],
    commands: [...commands, "set", "incr"],
    open: async (setting) => (await import("./peers/redis.ts")).simpleMutex(setting)
  },
  {
    id: "floor: two EVALSHA",
    store: "redis",
    kind: "floor",
    options: "a script of four commands, twice for each cycle",
    lacks: [],
    only: ["cycle"],
    commands,
    open: async (setting) => (await import("./floors/redis.ts")).twoScripts(setting)
  },
  {
    id: "floor: one script, one publish",
    store: "redis",
    kind: "floor",
    options: "one EVALSHA that publishes for each hand-off; the next goes on when the message arrives",
    lacks: [],
    only: ["cycle", "drain"],
    commands,
    open: async (setting) => (await import("./floors/redis.ts")).scriptAndPublish(setting)
  }
]

const postgres: ReadonlyArray<Subject> = [
  {
    ...ours,
    id: "ours",
    store: "postgres",
    options: "defaults; PgClient with its default pool of 10",
    open: async (setting) => (await import("./ours/postgres.ts")).open(setting)
  },
  {
    id: "advisory lock",
    store: "postgres",
    kind: "peer",
    options: "a connection of `pg` for each caller, up to 1100, opened before",
    lacks: ["limit"],
    open: async (setting) => (await import("./peers/postgres.ts")).open(setting)
  },
  {
    id: "floor: one commit",
    store: "postgres",
    kind: "floor",
    options: "one durable update of one row for each cycle, through the client of ours",
    lacks: [],
    only: ["cycle"],
    open: async (setting) => (await import("./floors/postgres.ts")).commit(setting)
  },
  {
    id: "floor: one commit with NOTIFY",
    store: "postgres",
    kind: "floor",
    options: "the same with NOTIFY; in a hand-off, the next goes on when the notification arrives",
    lacks: [],
    only: ["cycle", "drain"],
    open: async (setting) => (await import("./floors/postgres.ts")).commitAndNotify(setting)
  }
]

const etcd: ReadonlyArray<Subject> = [
  {
    ...ours,
    id: "ours",
    store: "etcd",
    open: async (setting) => (await import("./ours/etcd.ts")).open(setting)
  },
  {
    id: "etcd3's lock()",
    store: "etcd",
    kind: "peer",
    options: "asked again every 50 ms, ±50 % at random: it does not wait by itself",
    lacks: ["limit"],
    open: async (setting) => (await import("./peers/etcd.ts")).etcd3Lock(setting)
  },
  {
    id: "etcd's recipe",
    store: "etcd",
    kind: "peer",
    options: "concurrency.Mutex of etcd's Go client, written on etcd3; one lease for the process",
    lacks: ["limit"],
    open: async (setting) => (await import("./peers/etcd.ts")).recipe(setting)
  },
  {
    id: "floor: one put",
    store: "etcd",
    kind: "floor",
    options: "one put for each cycle",
    lacks: [],
    only: ["cycle"],
    open: async (setting) => (await import("./floors/etcd.ts")).put(setting)
  },
  {
    id: "floor: put to watch event",
    store: "etcd",
    kind: "floor",
    options: "one put for each hand-off; the next goes on when the event arrives",
    lacks: [],
    only: ["cycle", "drain"],
    open: async (setting) => (await import("./floors/etcd.ts")).putToEvent(setting)
  }
]

const sqlite: ReadonlyArray<Subject> = [
  {
    ...ours,
    id: "ours",
    store: "sqlite",
    open: async (setting) => (await import("./ours/sqlite.ts")).open(setting)
  },
  {
    id: "proper-lockfile",
    store: "sqlite",
    kind: "peer",
    options: "retries for ever, every 10 to 20 ms (none by default); stale after the ttl, 2 s at least",
    lacks: ["limit"],
    open: async (setting) => (await import("./peers/files.ts")).properLockfile(setting)
  },
  {
    id: "flock(1)",
    store: "sqlite",
    kind: "peer",
    options: "a process for each caller, which has the lock until its input ends",
    lacks: ["limit"],
    only: ["cycle", "drain", "crash"],
    open: async (setting) => (await import("./peers/files.ts")).flock(setting)
  },
  {
    id: "floor: two transactions",
    store: "sqlite",
    kind: "floor",
    options: "the statements of ours for a cycle, through node:sqlite",
    lacks: [],
    only: ["cycle"],
    open: async (setting) => (await import("./floors/sqlite.ts")).twoTransactions(setting)
  }
]

export const subjects: ReadonlyArray<Subject> = [...memory, ...redis, ...postgres, ...etcd, ...sqlite]

export const find = (store: string, id: string): Subject => {
  const subject = subjects.find((subject) => subject.store === store && subject.id === id)
  if (subject === undefined) throw new Error(`There is no subject "${id}" on ${store}`)
  return subject
}
