/** The members of the backing: each operation is a function of a transaction. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Path from "node:path"
import type { Acquired, RefreshRequest, Waiting } from "../../core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../core/Backing.ts"
import { SemaphoreBackingError } from "../../core/Errors.ts"
import { refuse } from "../../core/internal/options.ts"
import { resolveOwner } from "../internal/owner.ts"
import * as Batches from "./batches.ts"
import type { Sqlite } from "./connection.ts"
import { doubtfulFileSystems } from "./fileSystems.ts"
import * as Look from "./look.ts"
import type { Machine } from "./machine.ts"
import { decode, encode } from "./names.ts"
import type { Contender } from "./semaphore.ts"
import type { SqliteBackingOptions } from "./SqliteBacking.ts"
import type { Reader } from "./store.ts"
import { Store } from "./store.ts"
import type { Transaction } from "./transaction.ts"
import { oldestRevocation } from "./transaction.ts"
import { wakeAll, Wakes, writesTo } from "./wakes.ts"

const sweepMillis = 3000

/** How long another process may be busy with the file while the layer is built. */
const openMillis = 5000

interface Write<A> {
  readonly size: number
  readonly name: string
  readonly body: (transaction: Transaction) => A
  /** The latest time of the monotonic clock at which it may take effect (B12). */
  readonly latest: number
}

interface Read<A> {
  readonly size: number
  readonly name: string
  readonly body: (reader: Reader) => A
}

export const make = Effect.fnUntraced(function*(options: SqliteBackingOptions, machine: Machine) {
  const filename = pathOf(options.filename)
  const owner = encode(resolveOwner(options.owner))
  const sqlite = yield* loadSqlite
  const store = yield* Effect.acquireRelease(
    Effect.sync(() => new Store(sqlite, filename, machine, owner, () => beginAnew())),
    (store) => Effect.sync(() => store.close())
  )
  const hears = options.pushBasedAcquireEnabled !== false
  const wakes = yield* Effect.acquireRelease(
    Effect.sync(() => new Wakes(filename, () => hear())),
    (wakes) => Effect.sync(() => wakes.close())
  )

  const writes = Batches.make<Write<unknown>, unknown, SemaphoreBackingError>((operations) => {
    try {
      const done = store.write(hears ? wakes.listener : undefined, (transaction) => {
        const now = machine.monotonic()
        return operations.map(({ body, latest, name }) =>
          now > latest ? failure(name, new Error(lateMessage)) : Exit.succeed(body(transaction))
        )
      })
      if (done === undefined) return undefined
      const [exits, { granted, listeners, revokes }] = done
      for (const { key, token } of granted) wakes.tell(key, token)
      wakes.wake(listeners)
      if (revokes) wakeAll(filename)
      return exits
    } catch (error) {
      return operations.map(({ name }) => failure(name, error))
    }
  })

  const reads = Batches.make<Read<unknown>, unknown, SemaphoreBackingError>((operations) => {
    try {
      return store.read((reader) => operations.map(({ body }) => Exit.succeed(body(reader))))
    } catch (error) {
      return operations.map(({ name }) => failure(name, error))
    }
  })

  const write = <A>(
    name: string,
    body: (transaction: Transaction) => A,
    { size = 1, within }: { readonly size?: number; readonly within?: Duration.Duration | undefined } = {}
  ) =>
    Effect.suspend(() => {
      const latest = within === undefined ? Number.POSITIVE_INFINITY : machine.monotonic() + micros(within)
      return writes({ name, size, body, latest }) as Effect.Effect<A, SemaphoreBackingError>
    })
  const read = <A>(name: string, body: (reader: Reader) => A) =>
    reads({ name, size: 1, body }) as Effect.Effect<A, SemaphoreBackingError>

  /** The number of the last grant that this process has looked at. */
  let heard = 0
  /** The number of the last revocation that it has looked at. */
  let heardRevocation = 0
  /** Runs when this process is woken, by a grant or a revocation: maybe one for a process that shares its file. */
  const hear = () => {
    const { name } = wakes.listener
    try {
      const news = store.read(({ connection }) => ({
        grants: connection.all<Grant>("grantsOf", name, heard),
        revocations: connection.all<Revoked>("revocationsAfter", heardRevocation)
      }))
      if (news === undefined) return wakes.tellAll()
      for (const { granted, key, token } of news.grants) {
        heard = granted
        wakes.tell(key, token)
      }
      for (const { id, key, number } of news.revocations) {
        heardRevocation = number
        wakes.tellRevoked({ key: decode(key), holderId: decode(id) })
      }
    } catch {
      wakes.tellAll()
    }
  }

  /** Runs when the file works again after trouble. Maybe it is another one, whose numbers are smaller. */
  const beginAnew = () => {
    heard = heardRevocation = 0
    wakes.beginAnew()
  }

  /** Removes what has expired of keys that nobody uses any more, and old revocations. Notices a replaced file. */
  const sweep = () => {
    try {
      const old = store.read(({ connection, now }) => ({
        keys: connection.all<{ readonly key: string }>("expiredKeys", now),
        hasRevocations: connection.get("hasOldRevocations", oldestRevocation(now)) !== undefined
      }))
      if (old === undefined || old.keys.length === 0 && !old.hasRevocations) return
      Effect.runFork(Effect.ignore(write("sweep", (transaction) => {
        for (const { key } of old.keys) transaction.semaphore(key)
        transaction.forgetRevocations()
      })))
    } catch {}
  }

  heardRevocation = yield* Effect.timeoutOrElse(write("open", ({ now }) => now), {
    duration: openMillis,
    orElse: () =>
      failure("open", new Error(`${filename}: another process has been busy with the file for ${openMillis} ms`))
  })
  const doubtful = doubtfulFileSystems.get(machine.fileSystem(filename))
  if (doubtful !== undefined) {
    yield* Effect.logWarning(
      `${filename} is on a file system (${doubtful}) that may be shared by several machines: use it from one only`
    )
  }
  sweep()
  yield* Effect.acquireRelease(
    Effect.sync(() => setInterval(sweep, sweepMillis).unref()),
    (timer) => Effect.sync(() => clearInterval(timer))
  )

  const refreshAll = (requests: ReadonlyArray<RefreshRequest>) =>
    write("refresh", (transaction) =>
      requests.map((request) => {
        const { fencingToken, holderId, key, ttl } = request
        const semaphore = transaction.semaphore(encode(key))
        const own = semaphore.refresh(encode(holderId), micros(ttl), numberOf(fencingToken))
        return own !== undefined && answer(transaction, key, own, ttl, request)
      }), { size: requests.length })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, { queue = false, within } = {}) =>
      write("tryAcquire", (transaction) => {
        const request = { id: encode(holderId), ttl: micros(ttl), limit, permits }
        const own = transaction.semaphore(encode(key)).ask(request, queue)
        return own !== undefined && answer(transaction, key, own, ttl, request)
      }, { within }),

    release: (key, holderId, permits, options) =>
      write(
        "release",
        (transaction) => {
          if (options?.revoke) transaction.revoke(encode(key), encode(holderId))
          return transaction.semaphore(encode(key)).release(encode(holderId), permits, numberOf(options?.fencingToken))
        }
      ),

    refresh: (key, holderId, ttl, limit, permits, options) =>
      Effect.map(
        refreshAll([{ key, holderId, ttl, limit, permits, fencingToken: options?.fencingToken }]),
        ([answer]) => answer!
      ),

    refreshAll: (requests) =>
      Effect.map(
        Effect.forEach(chunks(requests), refreshAll, { concurrency: "unbounded" }),
        (answers) => answers.flat()
      ),

    getCount: (key) => read("getCount", (reader) => Look.count(reader, key)),

    onPermitsReleased: hears ? (key) => wakes.listen(encode(key)) : undefined,

    inspect: (key) => read("inspect", (reader) => Look.inspect(reader, key)),

    onRevoked: hears ? wakes.revocations : undefined,

    onChanged: hears ? () => writesTo(filename) : undefined,

    keys: Stream.paginate(
      "",
      (last: string) =>
        Effect.map(
          read("keys", (reader) => Look.keysAfter(reader, last, keysPerPage)),
          (keys) => [keys.map(decode), keys.length < keysPerPage ? Option.none() : Option.some(keys.at(-1)!)] as const
        )
    )
  })
})

const keysPerPage = 1000

interface Grant {
  readonly key: string
  readonly token: number
  readonly granted: number
}

interface Revoked {
  /** Encoded, as is the identifier. */
  readonly key: string
  readonly id: string
  readonly number: number
}

const answer = (
  transaction: Transaction,
  key: string,
  own: Contender,
  ttl: Duration.Duration,
  asked: Pick<RefreshRequest, "limit" | "permits">
): Acquired | Waiting => {
  const fencingToken = FencingToken(BigInt(own.token))
  const semaphore = transaction.semaphore(encode(key))
  const smallest = semaphore.limitFor(own)
  const limit = smallest < asked.limit ? smallest : undefined
  if (own.granted > 0) {
    const permits = own.permits < asked.permits ? own.permits : undefined
    return { _tag: "Acquired", fencingToken, permits, limit }
  }
  const { position, retryAfter } = semaphore.place(own, micros(ttl))
  return {
    _tag: "Waiting",
    fencingToken,
    position,
    retryAfter: transaction.hears ? Duration.micros(BigInt(Math.ceil(retryAfter))) : undefined,
    limit
  }
}

const failure = (operation: string, cause: unknown) => Exit.fail(new SemaphoreBackingError({ operation, cause }))

const lateMessage = "The file was busy for longer than the request may take, which had no effect"

const loadSqlite: Effect.Effect<Sqlite, SemaphoreBackingError> = Effect.catch(
  Effect.tryPromise(() => import("node:sqlite")),
  () => failure("open", new Error(`SqliteBacking needs Node 22.13 or later, but this is ${process.version}`))
)

/** Returns the full path. Refuses other names that SQLite knows, such as ":memory:". */
const pathOf = (filename: unknown): string => {
  const isPath = typeof filename === "string" && filename !== "" && filename !== ":memory:" &&
    !filename.startsWith("file:") && !filename.includes("\0")
  if (!isPath) refuse("filename", filename, "the path of a file, because other processes can't share what is in memory")
  return Path.resolve(filename as string)
}

/** Returns microseconds. More than a century is for ever, and still exact. */
const micros = (duration: Duration.Duration): number => Math.min(Math.ceil(Duration.toMillis(duration) * 1000), 2 ** 52)

const numberOf = (token: FencingToken | undefined): number | undefined =>
  token === undefined ? undefined : Number(token)

const chunks = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from(
    { length: Math.ceil(all.length / Batches.most) },
    (_, index) => all.slice(index * Batches.most, (index + 1) * Batches.most)
  )
