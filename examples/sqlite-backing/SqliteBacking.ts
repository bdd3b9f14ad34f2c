/**
 * Semaphores in a SQLite file, shared by the processes of one machine. It lacks nothing but notifications, which SQLite does
 * not have: waiters poll. Needs Node 22.13 or later.
 */
import { Duration, Effect, Layer } from "effect"
import { Backing, DistributedSemaphoreBacking, FencingToken, SemaphoreBackingError } from "effect-distributed-lock"
import { DatabaseSync } from "node:sqlite"

// One table is the lines of all keys. AUTOINCREMENT never issues a number twice, not even after all rows are gone: tokens only
// ever rise (B11).
const schema = `
  create table if not exists contenders (
    token integer primary key autoincrement,
    key text not null, id text not null,
    permits integer not null, allowed integer not null, expiry integer not null, holds integer not null default 0,
    unique (key, id)
  )
`

/**
 * Grants (B2): a contender of the key holds if its permits and those of everyone before it fit into the smallest limit of them.
 * Input: key.
 */
const grant = `
  update contenders set holds = 1 where token in (
    select token from (
      select token, sum(permits) over line as total, min(allowed) over line as smallest
      from contenders where key = ? window line as (order by token)
    ) where total <= smallest
  )
`

/**
 * Whether a request fits behind everyone else, at the end of the line (B2). Inputs: permits, limit, key, identifier. Output: 0 or 1.
 */
const fits = `
  select total + ?1 <= min(smallest, ?2) as fits from (
    select coalesce(sum(permits), 0) as total, coalesce(min(allowed), ?2) as smallest
    from contenders where key = ?3 and id <> ?4
  )
`

interface Contender {
  readonly token: number
  readonly id: string
  readonly permits: number
  readonly expiry: number
  readonly holds: 0 | 1
}

// SQLite's text can't hold every string of JavaScript. JSON can, and is different for different strings (B8).
const encode = (text: string) => JSON.stringify(text)
const decode = (text: string) => JSON.parse(text) as string

const make = Effect.fnUntraced(function*(file: string) {
  const db = yield* Effect.acquireRelease(
    Effect.sync(() => new DatabaseSync(file, { timeout: 5000 })),
    (db) => Effect.sync(() => db.close())
  )
  db.exec(schema)

  const get = <A>(sql: string, ...parameters: ReadonlyArray<string | number>) =>
    db.prepare(sql).get(...parameters) as A | undefined
  const run = (sql: string, ...parameters: ReadonlyArray<string | number>) => db.prepare(sql).run(...parameters)

  /**
   * Returns the time of the store: SQLite's, not that of the process (S4). It is rounded down to milliseconds, so a lease lasts
   * until its last millisecond is over: never less than its ttl (B6).
   */
  const clock = () => get<{ now: number }>("select cast(unixepoch('subsec') * 1000 as integer) as now")!.now

  const expiryOf = (ttl: Duration.Duration) => clock() + Math.ceil(Duration.toMillis(ttl))

  const attempt = <A>(operation: string, body: () => A) =>
    Effect.try({ try: body, catch: (cause) => new SemaphoreBackingError({ operation, cause }) })

  /**
   * Runs an operation that has the file to itself until it returns (B9), and so never takes effect late (B12). It begins without
   * what has expired (B6), and what became free is granted before it and after it.
   */
  const transaction = <A>(operation: string, key: string, body: (key: string) => A) =>
    attempt(operation, () => {
      db.exec("begin immediate")
      try {
        run("delete from contenders where expiry < ?", clock())
        run(grant, encode(key))
        const answer = body(encode(key))
        run(grant, encode(key))
        db.exec("commit")
        return answer
      } catch (error) {
        db.exec("rollback")
        throw error
      }
    })

  const find = (key: string, id: string, token?: bigint) => {
    const own = get<Contender>("select * from contenders where key = ? and id = ?", key, encode(id))
    return token === undefined || own?.token === Number(token) ? own : undefined
  }

  const answer = (key: string, id: string, asked: number): Backing.Acquired | Backing.Waiting => {
    const { holds, permits, token } = find(key, id)!
    const fencingToken = FencingToken(BigInt(token))
    if (holds) return { _tag: "Acquired", fencingToken, permits: permits < asked ? permits : undefined }
    const ahead = "select count(*) as position from contenders where key = ? and not holds and token < ?"
    return { _tag: "Waiting", fencingToken, ...get<{ position: number }>(ahead, key, token)! }
  }

  // Looks write nothing (B10): they leave out what has expired.
  const look = (operation: string, key: string) =>
    attempt(operation, () => {
      const now = clock()
      const all = db.prepare("select * from contenders where key = ? and expiry >= ? order by token")
        .all(encode(key), now) as unknown as Array<Contender>
      const those = (holds: 0 | 1) =>
        all.filter((one) => one.holds === holds).map(({ expiry, id, permits, token }) => ({
          identifier: decode(id),
          permits,
          fencingToken: FencingToken(BigInt(token)),
          remaining: Duration.millis(expiry - now)
        }))
      const [holders, line] = [those(1), those(0)]
      return { holders, line, holderCount: holders.length, waiterCount: line.length }
    })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      transaction("tryAcquire", key, (key) => {
        const own = find(key, id)
        if (own?.permits === permits) {
          if (!own.holds && !options?.queue) return false
          const extend = "update contenders set expiry = ?, allowed = min(allowed, ?) where token = ?"
          run(extend, expiryOf(ttl), limit, own.token)
          return answer(key, id, permits)
        }
        if (!options?.queue && !get<{ fits: number }>(fits, permits, limit, key, encode(id))!.fits) return false
        if (own) run("delete from contenders where token = ?", own.token)
        const join = "insert into contenders (key, id, permits, allowed, expiry) values (?, ?, ?, ?, ?)"
        run(join, key, encode(id), permits, limit, expiryOf(ttl))
        run(grant, key)
        return answer(key, id, permits)
      }),

    release: (key, id, permits, options) =>
      transaction("release", key, (key) => {
        const own = find(key, id, options?.fencingToken)
        if (own === undefined) return 0
        if (own.holds && own.permits > permits) {
          run("update contenders set permits = permits - ? where token = ?", permits, own.token)
          return permits
        }
        run("delete from contenders where token = ?", own.token)
        return own.holds ? own.permits : 0
      }),

    refresh: (key, id, ttl, _limit, permits, options) =>
      transaction("refresh", key, (key) => {
        const own = find(key, id, options?.fencingToken)
        if (own === undefined) return false
        run("update contenders set expiry = ? where token = ?", expiryOf(ttl), own.token)
        return answer(key, id, permits)
      }),

    getCount: (key) =>
      Effect.map(look("getCount", key), ({ holders }) => holders.reduce((sum, { permits }) => sum + permits, 0)),

    inspect: (key) => look("inspect", key)
  })
})

export const layer = (file: string): Layer.Layer<DistributedSemaphoreBacking> =>
  Layer.effect(DistributedSemaphoreBacking, make(file))
