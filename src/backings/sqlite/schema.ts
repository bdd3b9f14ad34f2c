/**
 * The tables, and every statement.
 *
 * - `clock`: one row, see `clock.ts`. `last` is also the last number that was issued: as a token, or for a grant or a
 *   revocation. The numbers rise over the whole file, and are not below the time: so none is issued twice, even if all
 *   rows are lost.
 * - `semaphores`: one row for each key with contenders: the permits held, the number of waiters, and the limits that
 *   the holders asked with, each with the number of these holders, as "<limit>:<holders> …".
 * - `contenders`: one row for each holder and each waiter. `granted` is 0 for a waiter, otherwise a number that rises
 *   with each grant. `listener` (see `wakes.ts`) is that of the process in which it waits or was granted, or null if
 *   that needs no wake-up. For operators, `since` is the wall clock's time when it joined the line, and `owner` is the
 *   process that asked last.
 * - `revocations`: what was revoked in the last seconds, by the number of the revocation.
 *
 * Keys and identifiers are JSON, because SQLite's text can't hold every string of JavaScript. Times are microseconds of
 * the store's clock. They and the numbers stay below 2^53.
 */

/** "edlk" in the file's header says that the file is ours. */
export const applicationId = 0x65646c6b

/** The version of the tables, which is also in the file's header. */
export const version = 2

export const create = `
  create table clock (
    id integer primary key check (id = 1), boot text not null, start integer not null, last integer not null
  );
  create table semaphores (
    key text primary key, held integer not null, waiting integer not null, limits text not null
  ) without rowid;
  create table contenders (
    key text not null, id text not null, token integer not null, permits integer not null, allowed integer not null,
    expiry integer not null, granted integer not null, listener text, owner text not null, since integer not null,
    primary key (key, id)
  ) without rowid;
  create index expiries on contenders (key, expiry);
  create index line on contenders (key, granted, token);
  create index grants on contenders (listener, granted) where listener is not null and granted > 0;
  create table revocations (number integer primary key, key text not null, id text not null);
  pragma application_id = ${applicationId};
  pragma user_version = ${version};
`

export const statements = {
  begin: "begin immediate",
  beginRead: "begin",
  commit: "commit",
  rollback: "rollback",

  clock: "select boot, start, last from clock",
  /** Input: boot, start, last. */
  startClock: "insert or replace into clock (id, boot, start, last) values (1, ?, ?, ?)",
  /** Input: last. */
  advance: "update clock set last = ?",

  /** Input: key. */
  semaphore: "select held, waiting, limits from semaphores where key = ?",
  /** Input: key, held, waiting, limits. */
  saveSemaphore: "insert or replace into semaphores (key, held, waiting, limits) values (?, ?, ?, ?)",
  /** Input: key. */
  removeSemaphore: "delete from semaphores where key = ?",

  /** Input: key, id. */
  find: "select id, token, permits, allowed, expiry, granted, listener from contenders where key = ? and id = ?",
  /** Input: key, id, token, permits, allowed, expiry, granted, listener, owner, since. */
  insert: `insert or replace into contenders (key, id, token, permits, allowed, expiry, granted, listener, owner, since)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  /** Input: key, id. */
  remove: "delete from contenders where key = ? and id = ?",
  /** Input: expiry, allowed, listener, owner, key, id. */
  extend: "update contenders set expiry = ?, allowed = ?, listener = ?, owner = ? where key = ? and id = ?",
  /** Input: permits, key, id. */
  reduce: "update contenders set permits = ? where key = ? and id = ?",
  /** Input: granted, listener, key, id. */
  grant: "update contenders set granted = ?, listener = ? where key = ? and id = ?",

  /** Input: key. The first in line. */
  first: `select id, token, permits, allowed, expiry, granted, listener from contenders indexed by line
    where key = ? and granted = 0 order by token limit 1`,
  /** Input: key, token, token. How many waiters have a token from the first to below the second. */
  countLine:
    "select count(*) as count from contenders indexed by line where key = ? and granted = 0 and token >= ? and token < ?",
  /** Input: key, token. When the place directly ahead expires. */
  expiryAhead: `select expiry from contenders indexed by line
    where key = ? and granted = 0 and token < ? order by token desc limit 1`,
  /** Input: key. When the first contender expires. */
  firstExpiry: "select min(expiry) as expiry from contenders indexed by expiries where key = ?",
  /** Input: key, time. The contenders that have expired. */
  expired: `select id, token, permits, allowed, expiry, granted, listener from contenders indexed by expiries
    where key = ? and expiry <= ?`,
  /** Input: key, id. The permits of everybody else, which may be more than 2^53, and their smallest limit. */
  others: `select total(permits) as permits, min(allowed) as allowed from contenders where key = ? and id <> ?`,

  /** Input: time. Keys with contenders that have expired. */
  expiredKeys: "select distinct key from contenders indexed by expiries where expiry <= ? limit 100",
  /** Input: listener, granted. What was granted to a listener after the grant with this number. */
  grantsOf: `select key, token, granted from contenders indexed by grants
    where listener = ? and granted > ? and granted > 0 order by granted`,

  /** Input: number, key, id. B13. */
  revoke: "insert into revocations (number, key, id) values (?, ?, ?)",
  /** Input: number. What was revoked after the revocation with this number. */
  revocationsAfter: "select number, key, id from revocations where number > ? order by number",
  /** Input: time. */
  forgetRevocations: "delete from revocations where number < ?",
  /** Input: time. */
  hasOldRevocations: "select 1 from revocations where number < ? limit 1",

  /** Input: key, time. The permits of the holders that have expired, and how many holders and waiters have. B10. */
  expiredOf:
    `select coalesce(sum(permits) filter (where granted > 0), 0) as held, count(*) filter (where granted > 0) as holders,
    count(*) filter (where granted = 0) as waiters
    from contenders indexed by expiries where key = ? and expiry <= ?`,
  /** Input: key, time, limit. B10. */
  holders: `select id, token, permits, expiry, owner, since from contenders indexed by line
    where key = ? and granted > 0 and expiry > ? order by granted limit ?`,
  /** Input: key, time, limit. B10. */
  waiters: `select id, token, permits, expiry, owner, since from contenders indexed by line
    where key = ? and granted = 0 and expiry > ? order by token limit ?`,
  /** Input: key, time, limit. The keys after this one that have contenders. */
  keysAfter: `select key from semaphores where key > ?
    and exists (select 1 from contenders indexed by expiries where contenders.key = semaphores.key and expiry > ?)
    order by key limit ?`
} as const

export type StatementName = keyof typeof statements
