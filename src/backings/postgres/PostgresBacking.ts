/**
 * Semaphores in PostgreSQL, through a client of `@effect/sql-pg`.
 *
 * **When to use**
 *
 * Use it where a database is the only thing that all processes share. Each operation waits for a durable commit.
 * Operations of a process that are pending at the same time share one.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg"
import * as Config from "effect/Config"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Acquired, RefreshRequest, SemaphoreState, Waiting } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken, mostListed } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { resolveOwner } from "../internal/owner.ts"
import * as ServerTime from "../internal/serverTime.ts"
import { inBackground } from "./background.ts"
import { serverError } from "./errors.ts"
import * as Migrate from "./migrate.ts"
import { quote } from "./migrations.ts"
import { decode, encode } from "./names.ts"
import * as Notifications from "./notifications.ts"
import * as Operations from "./operations.ts"
import { apart } from "./transactions.ts"

export { type Migration, migrations } from "./migrations.ts"

/**
 * The options of `PostgresBacking.layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface PostgresBackingOptions {
  /**
   * The schema in which all is kept, `"effect_distributed_lock"` by default. Semaphores in different schemas are
   * different. A name has at most 63 bytes.
   */
  readonly schema?: string | undefined
  /** Whether to create the schema, or bring it up to date, when the layer is built: `true` by default. */
  readonly migrate?: boolean | undefined
  /**
   * Whether waiters are notified of grants, and holders of revocations: `true` by default. From the first wait, or the
   * first hold of more than a second, this keeps one connection of the pool, so the pool needs two. Without it, waiters
   * poll, and a holder learns of a revocation when it refreshes.
   */
  readonly pushBasedAcquireEnabled?: boolean | undefined
  /**
   * When to listen again after the connection was lost, or if it receives nothing, as behind a pooler: every second by
   * default. Meanwhile, and once the schedule has ended, waiters poll.
   */
  readonly pushStreamRetrySchedule?: Schedule.Schedule<unknown> | undefined
  /** The name by which `inspect` lists this process: its host name and process id by default. */
  readonly owner?: string | undefined
  /** The client to listen with, if the `PgClient` is behind a pooler that can't: the `PgClient` itself by default. */
  readonly listenClient?: PgClient.PgClient | undefined
}

/**
 * Keeps semaphores in the database of the `PgClient`.
 *
 * **Details**
 *
 * Operations never join a transaction that is open around them. Building the layer fails if the schema is missing (with
 * `migrate: false`) or newer than this version of the package, and if the sessions' isolation level is not READ
 * COMMITTED.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: PostgresBackingOptions = {}
): Layer.Layer<DistributedSemaphoreBacking, SemaphoreBackingError, PgClient.PgClient> =>
  Layer.effect(DistributedSemaphoreBacking, make(options))

/**
 * Like `layer`, but reads its options from the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Pick<PostgresBackingOptions, "schema" | "migrate" | "pushBasedAcquireEnabled" | "owner">>
): Layer.Layer<DistributedSemaphoreBacking, Config.ConfigError | SemaphoreBackingError, PgClient.PgClient> =>
  Layer.effect(DistributedSemaphoreBacking, Effect.flatMap(Config.unwrap(config), make))

const make = Effect.fnUntraced(function*(options: PostgresBackingOptions) {
  const client = yield* PgClient.PgClient
  const name = options.schema ?? "effect_distributed_lock"
  yield* Migrate.checkName(name)
  const owner = resolveOwner(options.owner)
  const schema = quote(name)

  if (options.migrate ?? true) yield* Migrate.migrate(client, name)
  yield* Migrate.verify(client, name)

  const run = <A extends object>(operation: string, statement: string, ...parameters: ReadonlyArray<unknown>) =>
    client.unsafe<A>(statement, parameters).withoutTransform.pipe(
      apart(client),
      Effect.mapError((error) => new SemaphoreBackingError({ operation, cause: serverError(error) }))
    )

  const serverTime = ServerTime.make()
  const sent = ServerTime.localTime()
  const [time] = yield* run<{ micros: bigint }>("migrate", `select ${schema}.server_time() as micros`)
  serverTime.learn("", sent, Number(time!.micros))

  /** The channel of this layer. */
  const listener = options.pushBasedAcquireEnabled === false ? undefined : crypto.randomUUID()
  const notifications = listener === undefined ? undefined : yield* Notifications.make(
    options.listenClient ?? client,
    (greeting, keys) =>
      run("onRevoked", `select ${schema}.greet($1::text, $2::text, $3::text[])`, listener, greeting, keys),
    listener,
    options.pushStreamRetrySchedule ?? Schedule.spaced("1 second")
  )
  const operations = yield* Operations.make(
    client,
    schema,
    listener,
    owner,
    serverTime,
    (key, tokens) => notifications?.notify(key, tokens)
  )

  // The first sweep comes at once, because the process may be short-lived. A sweep is repeated while there may be more
  // to sweep.
  const sweep = Effect.repeat(
    run<{ swept: bigint }>("sweep", `select ${schema}.sweep(interval '10 seconds') as swept`),
    { while: ([row]) => Number(row!.swept) >= 1000 }
  )
  yield* inBackground(Effect.repeat(Effect.ignoreCause(sweep), Schedule.spaced("30 seconds")))

  const submit = (operation: string, requests: ReadonlyArray<Operations.Operation>) =>
    Effect.mapError(
      operations.submit(requests),
      (cause) => new SemaphoreBackingError({ operation, cause })
    )

  /** Translates answers about contenders, given whether notifications stood when they were asked for. */
  const translate = (
    { answer, fewer_permits, number, position, retry_after, smaller_limit }: Operations.Answer,
    stood: boolean
  ): false | Acquired | Waiting => {
    const limit = smaller_limit === null ? undefined : Number(smaller_limit)
    switch (answer) {
      case "acquired":
        return {
          _tag: "Acquired",
          fencingToken: FencingToken(BigInt(number)),
          permits: fewer_permits === null ? undefined : Number(fewer_permits),
          limit
        }
      case "waiting":
        return {
          _tag: "Waiting",
          fencingToken: FencingToken(BigInt(number)),
          position: Number(position),
          // A waiter that may miss its grant polls.
          retryAfter: stood && stands() ? Duration.millis(Number(retry_after)) : undefined,
          limit
        }
      default:
        return false
    }
  }
  const stands = () => notifications?.stands() ?? false

  const refreshAll = (requests: ReadonlyArray<RefreshRequest>) =>
    Effect.suspend(() => {
      const stood = stands()
      return Effect.map(
        submit(
          "refresh",
          requests.map((request) => ({ fencingToken: undefined, ...request, kind: "refresh", latest: undefined }))
        ),
        (answers) => answers.map((answer) => translate(answer, stood))
      )
    })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      Effect.suspend(() => {
        const stood = stands()
        const kind = options?.queue ? "queue" : "acquire"
        const latest = options?.within && serverTime.at("", ServerTime.localTime())! + Operations.micros(options.within)
        return Effect.flatMap(
          submit("tryAcquire", [{ kind, key, holderId, permits, limit, ttl, fencingToken: undefined, latest }]),
          ([answer]) =>
            answer!.answer === "late"
              ? Effect.fail(ServerTime.lateError())
              : Effect.succeed(translate(answer!, stood))
        )
      }),

    release: (key, holderId, permits, options) =>
      Effect.map(
        submit("release", [{
          kind: options?.revoke ? "revoke" : "release",
          key,
          holderId,
          permits,
          limit: 0,
          ttl: Duration.zero,
          fencingToken: options?.fencingToken,
          latest: undefined
        }]),
        ([answer]) => Number(answer!.number)
      ),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      Effect.map(
        refreshAll([{ key, holderId, ttl, limit, permits, fencingToken: options?.fencingToken }]),
        ([answer]) => answer!
      ),

    refreshAll,

    getCount: (key) =>
      Effect.map(
        run<{ count: bigint }>("getCount", `select ${schema}.get_count($1::text) as count`, encode(key)),
        ([row]) => Number(row!.count)
      ),

    onPermitsReleased: notifications?.granted,
    onRevoked: notifications?.revoked,
    onChanged: notifications?.changed,

    inspect: (key) =>
      Effect.map(
        run<InspectRow>(
          "inspect",
          `select * from ${schema}.inspect($1::text, $2::bigint)`,
          encode(key),
          BigInt(mostListed)
        ),
        stateOf
      ),

    keys: Stream.paginate("", (after) =>
      Effect.map(
        run<{ digest: string; name: string }>(
          "keys",
          `select digest, name from ${schema}.keys($1::text, $2::bigint)`,
          after,
          BigInt(keysPerPage)
        ),
        (rows) => [
          rows.map(({ name }) => decode(name)),
          rows.length < keysPerPage ? Option.none() : Option.some(rows.at(-1)!.digest)
        ]
      ))
  })
})

const keysPerPage = 1000

interface InspectRow {
  readonly holder: string
  readonly permits: bigint
  readonly token: bigint
  readonly holds: boolean
  readonly micros: bigint
  readonly since: bigint | null
  readonly owner: string | null
  readonly holders: bigint
  readonly waiters: bigint
}

const stateOf = (rows: ReadonlyArray<InspectRow>): SemaphoreState => {
  const describe = ({ holder, micros, owner, permits, since, token }: InspectRow) => ({
    identifier: decode(holder),
    permits: Number(permits),
    fencingToken: FencingToken(BigInt(token)),
    remaining: Duration.micros(BigInt(micros)),
    owner: owner === null ? undefined : decode(owner),
    since: since === null ? undefined : DateTime.makeUnsafe(Number(since))
  })
  return {
    holders: rows.filter(({ holds }) => holds).map(describe),
    line: rows.filter(({ holds }) => !holds).map(describe),
    holderCount: Number(rows[0]?.holders ?? 0),
    waiterCount: Number(rows[0]?.waiters ?? 0)
  }
}
