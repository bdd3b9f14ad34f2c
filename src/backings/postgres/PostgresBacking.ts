/**
 * Semaphores in PostgreSQL, through a client of `@effect/sql-pg`.
 *
 * **When to use**
 *
 * Use it where a database is the only thing that all processes share, for semaphores that change hands some hundreds of times
 * a second at most: every acquire and every release is a durable commit.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg"
import { Array as Arr, Config, Duration, Effect, Layer, Schedule } from "effect"
import type { RefreshRequest, SemaphoreState } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { inBackground } from "./background.ts"
import { serverError } from "./errors.ts"
import * as Migrate from "./migrate.ts"
import { quote } from "./migrations.ts"
import { decode, encode } from "./names.ts"
import * as Notifications from "./notifications.ts"
import { apart } from "./transactions.ts"

export { type Migration, migrations } from "./migrations.ts"

/**
 * @category options
 * @since 0.1.0
 */
export interface PostgresBackingOptions {
  /**
   * The schema that all is kept in, `"effect_distributed_lock"` by default. Semaphores in different schemas are different. A
   * name has at most 63 bytes.
   */
  readonly schema?: string | undefined
  /** Whether to create the schema, or bring it up to date, when the layer is built: `true` by default. */
  readonly migrate?: boolean | undefined
  /**
   * Whether waiters are notified, `true` by default; from the first wait on this holds a connection of the pool, which so
   * needs 2. Otherwise they poll.
   */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /**
   * When to listen again after the connection was lost, or when what is notified is not heard, as behind a pooler: every
   * second by default. Meanwhile, and when the schedule has ended, waiters poll.
   */
  readonly pushStreamRetrySchedule?: Schedule.Schedule<unknown> | undefined
  /** The client to listen with, if the other is behind a pooler that can't: the same by default. */
  readonly listenClient?: PgClient.PgClient | undefined
}

/**
 * Keeps semaphores in the database of the `PgClient`.
 *
 * **Details**
 *
 * Operations never join a transaction that is open around them. Building the layer fails if the schema is missing (with
 * `migrate: false`) or newer than this version of the package, and if the sessions' isolation level is not READ COMMITTED.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: PostgresBackingOptions = {}
): Layer.Layer<DistributedSemaphoreBacking, SemaphoreBackingError, PgClient.PgClient> =>
  Layer.effect(DistributedSemaphoreBacking, make(options))

/**
 * Like `layer`, with options that are read from the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Pick<PostgresBackingOptions, "schema" | "migrate" | "pushBasedAcquireEnabled">>
): Layer.Layer<DistributedSemaphoreBacking, Config.ConfigError | SemaphoreBackingError, PgClient.PgClient> =>
  Layer.effect(DistributedSemaphoreBacking, Effect.flatMap(Config.unwrap(config), make))

const make = Effect.fnUntraced(function*(options: PostgresBackingOptions) {
  const client = yield* PgClient.PgClient
  const name = options.schema ?? "effect_distributed_lock"
  yield* Migrate.checkName(name)
  const schema = quote(name)

  // A number binds as int4, int8 or float8, by its value, and an array by its elements': bind what is of one type always.
  const run = <A extends object>(operation: string, statement: string, ...parameters: ReadonlyArray<Parameter>) =>
    client.unsafe<A>(statement, parameters).withoutTransform.pipe(
      apart(client),
      Effect.mapError((error) => new SemaphoreBackingError({ operation, cause: serverError(error) }))
    )

  if (options.migrate ?? true) yield* Migrate.migrate(client, name)
  yield* Migrate.verify(client, name)

  const notifications = options.pushBasedAcquireEnabled === false ? undefined : yield* Notifications.make(
    { listening: options.listenClient ?? client, notifying: client },
    name,
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )

  yield* inBackground(
    Effect.schedule(
      Effect.ignoreCause(run("sweep", `select ${schema}.sweep(interval '10 seconds')`)),
      Schedule.spaced("30 seconds")
    )
  )

  const refresh = (requests: ReadonlyArray<RefreshRequest>) =>
    Effect.map(
      run<{ index: bigint; token: bigint }>(
        "refresh",
        `select index, token from ${schema}.refresh($1::text[], $2::text[], $3::bigint[], $4::bigint[])`,
        requests.map(({ key }) => encode(key)),
        requests.map(({ holderId }) => encode(holderId)),
        requests.map(({ ttl }) => BigInt(millis(ttl))),
        requests.map(({ fencingToken }) => fencingToken ?? 0n)
      ),
      (rows) => {
        const tokens = new Map(rows.map(({ index, token }) => [Number(index), token]))
        return requests.map((_, index) => {
          const token = tokens.get(index + 1)
          return token !== undefined && { _tag: "Acquired" as const, fencingToken: FencingToken(BigInt(token)) }
        })
      }
    )

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      Effect.suspend(() => {
        const notified = notifications?.stands() ?? false
        return Effect.map(
          run<{ answer: "acquired" | "waiting" | "refused"; number: bigint; retry_after: bigint }>(
            "tryAcquire",
            `select answer, number, retry_after from ${schema}.try_acquire($1::text, $2::text, $3::bigint, $4::bigint, $5::bigint, $6::boolean)`,
            encode(key),
            encode(holderId),
            BigInt(millis(ttl)),
            BigInt(limit),
            BigInt(permits),
            options?.queue ?? false
          ),
          ([row]) => {
            const { answer, number, retry_after } = row!
            switch (answer) {
              case "acquired":
                return { _tag: "Acquired", fencingToken: FencingToken(BigInt(number)) }
              case "waiting":
                return {
                  _tag: "Waiting",
                  position: Number(number),
                  retryAfter: notified ? Duration.millis(Number(retry_after)) : undefined
                }
              default:
                return false
            }
          }
        )
      }),

    release: (key, holderId, permits, options) =>
      Effect.map(
        run<{ freed: bigint }>(
          "release",
          `select ${schema}.release($1::text, $2::text, $3::bigint, $4::bigint) as freed`,
          encode(key),
          encode(holderId),
          BigInt(permits),
          options?.fencingToken ?? null
        ),
        ([row]) => Number(row!.freed)
      ),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      Effect.map(refresh([{ key, holderId, ttl, limit, permits, ...options }]), ([answer]) => answer!),

    refreshAll: (requests) =>
      Effect.map(
        Effect.forEach(Arr.chunksOf(requests, largestBatch), refresh, { concurrency: "unbounded" }),
        (answers) => answers.flat()
      ),

    getCount: (key) =>
      Effect.map(
        run<{ count: bigint }>("getCount", `select ${schema}.get_count($1::text) as count`, encode(key)),
        ([row]) => Number(row!.count)
      ),

    onPermitsReleased: notifications?.listen,

    inspect: (key) =>
      Effect.map(
        run<InspectRow>(
          "inspect",
          `select holder, permits, token, ticket, micros from ${schema}.inspect($1::text)`,
          encode(key)
        ),
        stateOf
      )
  })
})

/** At most this many keys per statement: the server's lock table is limited. */
const largestBatch = 200

type Parameter = null | string | bigint | boolean | ReadonlyArray<string> | ReadonlyArray<bigint>

interface InspectRow {
  readonly holder: string
  readonly permits: bigint
  /** Absent for those who wait. */
  readonly token: bigint | null
  readonly micros: bigint
}

const stateOf = (rows: ReadonlyArray<InspectRow>): SemaphoreState => {
  const describe = ({ holder, micros, permits }: InspectRow) => ({
    identifier: decode(holder),
    permits: Number(permits),
    remaining: Duration.micros(BigInt(micros))
  })
  return {
    holders: rows.flatMap((row) =>
      row.token === null ? [] : [{ ...describe(row), fencingToken: FencingToken(BigInt(row.token)) }]
    ),
    line: rows.filter(({ token }) => token === null).map(describe)
  }
}

/** Whole milliseconds; more than a century is for ever. */
const millis = (ttl: Duration.Duration) => Math.min(Math.ceil(Duration.toMillis(ttl)), 4e12)
