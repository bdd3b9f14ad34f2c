/**
 * Semaphores in a SQLite file, shared by the processes of one machine. It lacks nothing but notifications, which SQLite does
 * not have: waiters poll. Needs Node 22.13 or later.
 */
import { Duration, Effect, Layer } from "effect"
import { Backing, DistributedSemaphoreBacking, FencingToken, SemaphoreBackingError } from "effect-distributed-lock"
import { DatabaseSync } from "node:sqlite"

// AUTOINCREMENT never issues a number twice, not even after all rows are gone: tokens only ever rise (B11).
const schema = `
  create table if not exists holds (
    token integer primary key autoincrement,
    key text not null, id text not null, permits integer not null, expiry integer not null,
    unique (key, id)
  );
  create table if not exists line (
    ticket integer primary key autoincrement,
    key text not null, id text not null, permits integer not null, expiry integer not null,
    unique (key, id)
  );
`

interface Row {
  readonly id: string
  readonly permits: number
  readonly expiry: number
}

// SQLite's text can't hold every string of JavaScript. JSON can, and is different for different strings (B8).
const encode = (text: string) => JSON.stringify(text)
const decode = (text: string) => JSON.parse(text) as string

const acquired = (token: number | bigint): Backing.Acquired => ({
  _tag: "Acquired",
  fencingToken: FencingToken(BigInt(token))
})

const make = Effect.fnUntraced(function*(file: string) {
  const db = yield* Effect.acquireRelease(
    Effect.sync(() => new DatabaseSync(file, { timeout: 5000 })),
    (db) => Effect.sync(() => db.close())
  )
  db.exec(schema)

  const get = <A>(sql: string, ...parameters: ReadonlyArray<string | number>) =>
    db.prepare(sql).get(...parameters) as A | undefined
  const all = <A>(sql: string, ...parameters: ReadonlyArray<string | number>) =>
    db.prepare(sql).all(...parameters) as Array<A>
  const run = (sql: string, ...parameters: ReadonlyArray<string | number>) => db.prepare(sql).run(...parameters)

  /**
   * The time of the store: what SQLite says, not the process (S4). It is rounded down to milliseconds, so a lease lasts until
   * its last millisecond is over: never less than its ttl (B6).
   */
  const clock = () => get<{ now: number }>("select cast(unixepoch('subsec') * 1000 as integer) as now")!.now

  const heldOf = (key: string, now: number) =>
    get<{ sum: number }>("select coalesce(sum(permits), 0) as sum from holds where key = ? and expiry >= ?", key, now)!
      .sum

  const attempt = <A>(operation: string, body: () => A) =>
    Effect.try({ try: body, catch: (cause) => new SemaphoreBackingError({ operation, cause }) })

  /** Has the file to itself (B9). What has expired is gone when it begins (B6). */
  const transaction = <A>(operation: string, body: (now: number) => A) =>
    attempt(operation, () => {
      db.exec("begin immediate")
      try {
        const now = clock()
        run("delete from holds where expiry < ?", now)
        run("delete from line where expiry < ?", now)
        const answer = body(now)
        db.exec("commit")
        return answer
      } catch (error) {
        db.exec("rollback")
        throw error
      }
    })

  const holdOf = (key: string, id: string) =>
    get<Row & { token: number }>("select * from holds where key = ? and id = ?", key, id)
  const leaveLine = (key: string, id: string) => run("delete from line where key = ? and id = ?", key, id)

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, holderId, ttl, limit, permits, options) =>
      transaction("tryAcquire", (now): boolean | Backing.Acquired | Backing.Waiting => {
        const [k, id, expiry] = [encode(key), encode(holderId), now + Math.ceil(Duration.toMillis(ttl))]
        const own = holdOf(k, id)
        if (own?.permits === permits) {
          run("update holds set expiry = ? where token = ?", expiry, own.token)
          leaveLine(k, id)
          return acquired(own.token)
        }

        const place = get<{ ticket: number }>("select ticket from line where key = ? and id = ?", k, id)
        const ahead = get<{ count: number; sum: number }>(
          "select count(*) as count, coalesce(sum(permits), 0) as sum from line where key = ? and ticket < ?",
          k,
          place?.ticket ?? Number.MAX_SAFE_INTEGER
        )!
        if (ahead.sum + permits <= limit - heldOf(k, now) + (own?.permits ?? 0)) {
          leaveLine(k, id)
          run("delete from holds where key = ? and id = ?", k, id)
          return acquired(
            run("insert into holds (key, id, permits, expiry) values (?, ?, ?, ?)", k, id, permits, expiry)
              .lastInsertRowid
          )
        }

        if (!options?.queue) return false
        run(
          `insert into line (key, id, permits, expiry) values (?, ?, ?, ?)
           on conflict (key, id) do update set permits = excluded.permits, expiry = excluded.expiry`,
          k,
          id,
          permits,
          expiry
        )
        return { _tag: "Waiting", position: ahead.count }
      }),

    release: (key, holderId, permits) =>
      transaction("release", () => {
        const [k, id] = [encode(key), encode(holderId)]
        leaveLine(k, id)
        const own = holdOf(k, id)
        if (own === undefined) return 0
        if (own.permits > permits) run("update holds set permits = permits - ? where token = ?", permits, own.token)
        else run("delete from holds where token = ?", own.token)
        return Math.min(own.permits, permits)
      }),

    refresh: (key, holderId, ttl) =>
      transaction("refresh", (now) => {
        const own = holdOf(encode(key), encode(holderId))
        if (own === undefined) return false
        run("update holds set expiry = ? where token = ?", now + Math.ceil(Duration.toMillis(ttl)), own.token)
        return acquired(own.token)
      }),

    // Looks write nothing (B10): they leave out what has expired.
    getCount: (key) => attempt("getCount", () => heldOf(encode(key), clock())),

    inspect: (key) =>
      attempt("inspect", (): Backing.SemaphoreState => {
        const now = clock()
        const rows = <A>(table: "holds" | "line", order: "token" | "ticket") =>
          all<Row & A>(`select * from ${table} where key = ? and expiry >= ? order by ${order}`, encode(key), now)
        const describe = ({ expiry, id, permits }: Row) => ({
          identifier: decode(id),
          permits,
          remaining: Duration.millis(expiry - now)
        })
        return {
          holders: rows<{ token: number }>("holds", "token").map((row) => ({
            ...describe(row),
            fencingToken: FencingToken(BigInt(row.token))
          })),
          line: rows("line", "ticket").map(describe)
        }
      })
  })
})

export const layer = (file: string): Layer.Layer<DistributedSemaphoreBacking> =>
  Layer.effect(DistributedSemaphoreBacking, make(file))
