/** What a run leaves in results.json. Nothing here depends on this folder's own packages: the tests of the library read it. */
import type { ScenarioName, StoreName, Subject } from "../subjects/subject.ts"

/** What was measured. A measure that does not apply is absent. */
export interface Measures {
  /** Operations per second. */
  readonly rate?: number | undefined
  /** Milliseconds. */
  readonly p50?: number | undefined
  readonly p99?: number | undefined
  /** Microseconds of the client's CPU for each operation. */
  readonly cpu?: number | undefined
  /** Requests, durable writes and bytes for each operation. */
  readonly requests?: number | undefined
  readonly writes?: number | undefined
  readonly walBytes?: number | undefined
  readonly bytes?: number | undefined
  /** Connections of the client at the end. */
  readonly connections?: number | undefined
  /** Bytes on the client's heap for each hold or waiter. */
  readonly heap?: number | undefined
  /** Jain's index. */
  readonly fairness?: number | undefined
  /** Other figures of a scenario, by name. Only the raw results have them. */
  readonly details?: Readonly<Record<string, unknown>> | undefined
}

export type Outcome =
  | {
    readonly type: "measured"
    readonly measures: Measures
    /** Says what the figures cover, if the scenario was not finished. */
    readonly cutOff?: string
    readonly note?: string
  }
  | { readonly type: "failed"; readonly reason: string }

export type Medium = "memory" | "disk" | "RAM disk"

/** One line of a table: a scenario at a size, on one store. */
export interface Row {
  readonly scenario: ScenarioName
  readonly label: string
  readonly store: StoreName
  readonly medium: Medium
  /** What one operation is, for measures that are "for each operation". */
  readonly operation: string
  /** The measures by which ours is compared with the others. The README shows the first one. */
  readonly compared: ReadonlyArray<"rate" | "p50" | "cpu" | "requests">
  readonly size: number
  /** Whether the README shows it. */
  readonly shown: boolean
  readonly parameters: Readonly<Record<string, number | string>>
}

export interface RowResults {
  readonly row: Row
  readonly subjects: ReadonlyArray<{
    readonly id: string
    /** Says why the subject can't run the scenario, if it can't. */
    readonly notOffered?: string
    /** The rounds of each sitting. In each sitting, all subjects have new processes, and take turns. */
    readonly sittings: ReadonlyArray<ReadonlyArray<Outcome>>
  }>
}

export interface Results {
  readonly command: string
  readonly date: string
  readonly minutes: number
  readonly machine: Readonly<Record<string, string>>
  readonly versions: Readonly<Record<string, string>>
  readonly subjects: ReadonlyArray<Pick<Subject, "id" | "store" | "kind" | "options">>
  readonly rows: ReadonlyArray<RowResults>
}
