/**
 * Semaphores in a SQLite file, for the processes of one machine, through Node's own `node:sqlite`.
 *
 * **When to use**
 *
 * Use it where all processes run on one machine and no server is wanted: cron jobs, command lines, CI runners, desktop
 * apps.
 *
 * **Gotchas**
 *
 * It needs Node 22.13 or later. The file must be on a disk of the machine: over a network file system, machines do not
 * share the memory that WAL mode needs.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { DistributedSemaphoreBacking } from "../../core/Backing.ts"
import type { SemaphoreBackingError } from "../../core/Errors.ts"
import * as Backing from "./backing.ts"
import { thisMachine } from "./machine.ts"

/**
 * The options of `SqliteBacking.layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface SqliteBackingOptions {
  /**
   * The path of the file. The file is created if it is missing; its folder must exist. While the file is in use, SQLite
   * keeps two more files beside it, and processes that wait keep a folder there, to wake each other.
   */
  readonly filename: string
  /**
   * Whether waiters are notified of grants, and holders of revocations: `true` by default. Otherwise waiters poll, and
   * a holder learns of a revocation when it refreshes.
   */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /** The name by which `inspect` lists this process: its host name and process id by default. */
  readonly owner?: string | undefined
}

/**
 * Keeps semaphores in a file of its own, shared by all processes of the machine that open it.
 *
 * **Details**
 *
 * Building the layer fails if the file can't be opened or is something else, if it is on a network file system, and on
 * a Node without `node:sqlite`. Operations that are asked for together share a transaction. While the file is busy they
 * are tried again, without blocking the process.
 *
 * **Example** (One job at a time on this machine)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { DistributedSemaphore } from "effect-distributed-lock"
 * import { SqliteBacking } from "effect-distributed-lock/sqlite"
 * import { tmpdir } from "node:os"
 * import { join } from "node:path"
 *
 * const program = Effect.gen(function*() {
 *   const mutex = yield* DistributedSemaphore.make("nightly-report")
 *   yield* Effect.log("running the report").pipe(mutex.withPermit)
 * })
 *
 * await program.pipe(
 *   Effect.provide(SqliteBacking.layer({ filename: join(tmpdir(), "semaphores.sqlite") })),
 *   Effect.runPromise
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: SqliteBackingOptions
): Layer.Layer<DistributedSemaphoreBacking, SemaphoreBackingError> =>
  Layer.effect(DistributedSemaphoreBacking, Backing.make(options, thisMachine()))

/**
 * Like `layer`, but reads its options from the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<SqliteBackingOptions>
): Layer.Layer<DistributedSemaphoreBacking, Config.ConfigError | SemaphoreBackingError> =>
  Layer.effect(
    DistributedSemaphoreBacking,
    Effect.flatMap(Config.unwrap(config), (options) => Backing.make(options, thisMachine()))
  )
