/** Which scenarios are run, on which stores, at which sizes. */
import type { Medium, Row } from "./report/results.ts"
import { hasMedium } from "./servers.ts"
import type { StoreName } from "./subjects/subject.ts"

export type Form = "smoke" | "short" | "full"

export interface Effort {
  /** After so many minutes, no other row begins. */
  readonly minutes: number
  /** What takes longer is ended, and counts as cut off. */
  readonly limitSeconds: number
}

const minutesOf: Readonly<Record<Form, number>> = { smoke: 0, short: 8.5, full: 180 }

export const effortOf = (form: Form, minutes = minutesOf[form]): Effort => ({
  minutes,
  limitSeconds: form === "full" ? 180 : 60
})

type Template = Omit<Row, "store" | "medium" | "shown"> & { readonly shown?: boolean }

interface Sizes {
  readonly cycleMillis: number
  readonly drains: ReadonlyArray<number>
  readonly loops: ReadonlyArray<number>
  readonly capMillis: number
  readonly loopMillis: number
  readonly mixedMillis: number
  readonly idle: number
  readonly holdTtlSeconds: number
  readonly waiterTtlSeconds: number
  /** At least a third of the waiters' ttl, and at least the holds' ttl, so that refreshes fall into it. */
  readonly idleMillis: number
  readonly crashCapMillis: number
  readonly permits: ReadonlyArray<number>
  readonly holders: ReadonlyArray<number>
  readonly keys: ReadonlyArray<number>
  readonly processes: number
  readonly callersOfEachProcess: number
  readonly idleOneKey: boolean
}

const sizesOf: Readonly<Record<Form, Sizes>> = {
  smoke: {
    cycleMillis: 30,
    drains: [5],
    loops: [4],
    capMillis: 5000,
    loopMillis: 50,
    mixedMillis: 60,
    idle: 5,
    // So long that nobody loses a lease because the machine has other work.
    holdTtlSeconds: 20,
    waiterTtlSeconds: 30,
    idleMillis: 50,
    crashCapMillis: 15_000,
    permits: [3],
    holders: [3],
    keys: [3],
    processes: 1,
    callersOfEachProcess: 2,
    idleOneKey: true
  },
  short: {
    cycleMillis: 500,
    drains: [100],
    loops: [100],
    capMillis: 3000,
    loopMillis: 500,
    mixedMillis: 700,
    idle: 200,
    holdTtlSeconds: 3,
    waiterTtlSeconds: 9,
    idleMillis: 3000,
    crashCapMillis: 4000,
    permits: [1000],
    holders: [100],
    keys: [1000],
    processes: 4,
    callersOfEachProcess: 25,
    idleOneKey: false
  },
  full: {
    cycleMillis: 500,
    drains: [10, 100, 1000, 10_000],
    loops: [10, 100, 1000],
    capMillis: 15_000,
    loopMillis: 1000,
    mixedMillis: 2000,
    idle: 1000,
    holdTtlSeconds: 3,
    waiterTtlSeconds: 30,
    idleMillis: 10_000,
    crashCapMillis: 15_000,
    permits: [1, 10, 100, 1000, 10_000],
    holders: [10, 100, 1000, 10_000],
    keys: [10, 100, 1000, 10_000],
    processes: 4,
    callersOfEachProcess: 250,
    idleOneKey: true
  }
}

/**
 * How long a process works before it is measured: with three seconds its code is compiled, as that of a long-running program is.
 * With less, a subject suffers for the amount of its code. The more minutes a run may take, the longer this is.
 */
const warmMillisOf = (minutes: number) => 10 + Math.min(3000, minutes * 60)

const templates = (form: Form, minutes: number): ReadonlyArray<Template> => {
  const sizes = sizesOf[form]
  const warm = { warmMillis: warmMillisOf(minutes) }
  const timed = { millis: sizes.cycleMillis, ...warm }
  const fast = ["rate", "cpu"] as const
  const idle = ["requests"] as const
  const cyclesOf = { scenario: "cycle", operation: "cycle", compared: fast, shown: true } as const
  return [
    {
      ...cyclesOf,
      label: "A. Cycles, one after another",
      size: 1,
      parameters: { callers: 1, ...timed }
    },
    {
      ...cyclesOf,
      label: "A. Cycles, 64 callers on 64 keys",
      size: 64,
      parameters: { callers: 64, ...timed }
    },
    ...sizes.drains.map((waiters): Template => ({
      scenario: "drain",
      label: `B. Drain of ${waiters} waiters`,
      operation: "hand-off",
      compared: fast,
      size: waiters,
      shown: true,
      parameters: { waiters, capMillis: sizes.capMillis, ...timed }
    })),
    ...sizes.loops.map((callers): Template => ({
      scenario: "loop",
      label: `B. Loop of ${callers} callers`,
      operation: "acquisition",
      compared: fast,
      size: callers,
      shown: callers === 100,
      parameters: { callers, millis: sizes.loopMillis, ...warm }
    })),
    {
      scenario: "mixed",
      label: "C. Limit 5, requests of 1 to 5",
      operation: "acquisition",
      compared: ["rate"],
      size: 20,
      shown: true,
      parameters: { millis: sizes.mixedMillis }
    },
    ...["many keys", ...sizes.idleOneKey ? ["one key"] : []].map((of): Template => ({
      scenario: "idleHolds",
      label: `D. ${sizes.idle} idle holds of ${of}, ttl ${sizes.holdTtlSeconds} s`,
      operation: "second",
      compared: idle,
      size: sizes.idle,
      shown: of === "many keys",
      parameters: { holds: sizes.idle, of, ttlMillis: sizes.holdTtlSeconds * 1000, millis: sizes.idleMillis }
    })),
    {
      scenario: "idleWaiters",
      label: `E. ${sizes.idle} idle waiters, ttl ${sizes.waiterTtlSeconds} s`,
      operation: "second",
      compared: idle,
      size: sizes.idle,
      shown: true,
      parameters: { waiters: sizes.idle, ttlMillis: sizes.waiterTtlSeconds * 1000, millis: sizes.idleMillis }
    },
    {
      scenario: "crash",
      label: "F. Crashed holder, ttl 2 s",
      operation: "crash",
      compared: ["p50"],
      size: 1,
      shown: true,
      parameters: { ttlMillis: 2000, capMillis: sizes.crashCapMillis }
    },
    ...sizes.permits.map((permits): Template => ({
      scenario: "permits",
      label: `G. A cycle of ${permits} permits`,
      operation: "cycle",
      compared: ["p50"],
      size: permits,
      parameters: { permits, ...timed }
    })),
    ...sizes.holders.map((holders): Template => ({
      scenario: "holders",
      label: `G. A cycle beside ${holders} holders`,
      operation: "cycle",
      compared: ["p50"],
      size: holders,
      parameters: { holders, ...timed }
    })),
    ...sizes.keys.map((keys): Template => ({
      scenario: "keys",
      label: `G. Cycles, 64 callers over ${keys} keys`,
      operation: "cycle",
      compared: fast,
      size: keys,
      parameters: { callers: 64, keys, ...timed }
    })),
    {
      scenario: "processes",
      label: `H. ${sizes.processes} processes on one key`,
      operation: "acquisition",
      compared: fast,
      size: sizes.processes,
      shown: true,
      parameters: { processes: sizes.processes, callers: sizes.callersOfEachProcess, millis: sizes.loopMillis, ...warm }
    }
  ]
}

const mediaOf: Readonly<Record<StoreName, ReadonlyArray<Medium>>> = {
  memory: ["memory"],
  redis: ["memory"],
  postgres: ["RAM disk", "disk"],
  etcd: ["RAM disk", "disk"],
  sqlite: ["RAM disk", "disk"]
}

/** Returns whether a store can run a scenario: the backing in memory lives in one process. */
const makesSense = (store: StoreName, { scenario }: Template) =>
  store !== "memory" || (scenario !== "crash" && scenario !== "processes")

/**
 * Returns whether a row is measured on the disk, too. The medium makes no difference to a scenario that idles, or to a crash, whose
 * time is the ttl's. The short form takes only the scenarios that write most.
 */
const isWorthDisk = (form: Form, { scenario, size }: Template) =>
  form === "full"
    ? ["cycle", "drain", "loop", "mixed", "keys", "processes"].includes(scenario)
    : scenario === "drain" || (scenario === "cycle" && size > 1)

/** Returns the rows to measure: those whose store, medium and label contain each part in `only`. */
export const plan = (
  form: Form,
  minutes: number,
  only: ReadonlyArray<string> = []
): ReadonlyArray<Row> =>
  templates(form, minutes).flatMap((template) =>
    (Object.keys(mediaOf) as ReadonlyArray<StoreName>).flatMap((store) =>
      mediaOf[store]
        .filter((medium) => hasMedium(medium) && !(form === "smoke" && medium === "disk"))
        .filter((medium) => makesSense(store, template) && (medium !== "disk" || isWorthDisk(form, template)))
        .map((medium): Row => ({
          shown: false,
          ...template,
          store,
          medium,
          ...store === "memory" && { shown: false },
          // These stores get no requests.
          ...(store === "memory" || store === "sqlite") && template.compared.includes("requests") &&
            { compared: ["cpu"] }
        }))
    )
  ).filter((row) =>
    only.every((part) => `${row.store} ${row.medium} ${row.label}`.toLowerCase().includes(part.toLowerCase()))
  )
