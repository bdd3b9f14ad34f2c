/**
 * The tables, and every statement.
 *
 * - `clock`: one row, see `clock.ts`. `last` is also the last number that was issued, as a token or as the number of a grant: both
 *   rise over the whole file, and go on from the time, so that none is issued twice even if all rows are lost.
 * - `semaphores`: one row for each key with contenders: the permits held, the number of waiters, and the limits that the holders
 *   asked with and how many each, as "<limit>:<holders> …".
 * - `contenders`: one row each, holders and waiters. `granted` is 0 for a waiter, else a number that rises with each grant. `owner`
 *   is the listener (see `wakes.ts`) of the process in which it waits or was granted, null if that needs no wake-up.
 *
 * Keys and identifiers are JSON: SQLite's text can't hold every string of JavaScript. Times are microseconds of the store's
 * clock; they and the numbers stay below 2^53.
 */

/** "edlk", in the file's header: that the file is ours. */
export const applicationId = 0x65646c6b

/** The version of the tables, in the file's header, too. */
export const version = 1

export const create = `
  create table clock (
    id integer primary key check (id = 1), boot text not null, start integer not null, last integer not null
  );
  create table semaphores (
    key text primary key, held integer not null, waiting integer not null, limits text not null
  ) without rowid;
  create table contenders (
    key text not null, id text not null, token integer not null, permits integer not null, allowed integer not null,
    expiry integer not null, granted integer not null, owner text,
    primary key (key, id)
  ) without rowid;
  create index expiries on contenders (key, expiry);
  create index line on contenders (key, token) where granted = 0;
  create index grants on contenders (owner, granted) where owner is not null and granted > 0;
  pragma application_id = ${applicationId};
  pragma user_version = ${version};
`

export const statements = {
  begin: "begin immediate",
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
  find: "select id, token, permits, allowed, expiry, granted, owner from contenders where key = ? and id = ?",
  /** Input: key, id, token, permits, allowed, expiry, granted, owner. */
  insert: `insert or replace into contenders (key, id, token, permits, allowed, expiry, granted, owner)
    values (?, ?, ?, ?, ?, ?, ?, ?)`,
  /** Input: key, id. */
  remove: "delete from contenders where key = ? and id = ?",
  /** Input: expiry, allowed, owner, key, id. */
  extend: "update contenders set expiry = ?, allowed = ?, owner = ? where key = ? and id = ?",
  /** Input: permits, key, id. */
  reduce: "update contenders set permits = ? where key = ? and id = ?",
  /** Input: granted, owner, key, id. */
  grant: "update contenders set granted = ?, owner = ? where key = ? and id = ?",

  /** Input: key. The first in line. */
  first: `select id, token, permits, allowed, expiry, granted, owner from contenders indexed by line
    where key = ? and granted = 0 order by token limit 1`,
  /** Input: key, token, token. How many waiters have a number from the first to below the second. */
  countLine:
    "select count(*) as count from contenders indexed by line where key = ? and granted = 0 and token >= ? and token < ?",
  /** Input: key, token. When the place directly ahead expires. */
  expiryAhead: `select expiry from contenders indexed by line
    where key = ? and granted = 0 and token < ? order by token desc limit 1`,
  /** Input: key. When the first contender expires. */
  firstExpiry: "select min(expiry) as expiry from contenders indexed by expiries where key = ?",
  /** Input: key, time. Who has expired. */
  expired: `select id, token, permits, allowed, expiry, granted, owner from contenders indexed by expiries
    where key = ? and expiry <= ?`,
  /** Input: key, id. The permits of everybody else, and their smallest limit. */
  others:
    `select coalesce(sum(permits), 0) as permits, min(allowed) as allowed from contenders where key = ? and id <> ?`,

  /** Input: time. Keys with contenders that have expired. */
  expiredKeys: "select distinct key from contenders indexed by expiries where expiry <= ? limit 100",
  /** Input: owner, granted. What was granted to an owner after a grant. */
  grantsOf: `select key, token, granted from contenders indexed by grants
    where owner = ? and granted > ? and granted > 0 order by granted`,

  /** Input: key, time. B10. */
  count: "select coalesce(sum(permits), 0) as count from contenders where key = ? and expiry > ? and granted > 0",
  /** Input: key, time. B10. */
  inspect: "select id, token, permits, expiry, granted from contenders where key = ? and expiry > ? order by token"
} as const

export type StatementName = keyof typeof statements
