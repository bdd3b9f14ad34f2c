/**
 * Migration 2: holders and waiters stand in one line, and the store grants.
 *
 * It carries holds over. They last until they expire, because their holders run an earlier version of this package,
 * which can neither refresh nor release them any more. Places are not carried over, because nobody could use what is
 * granted to them. The earlier functions are replaced by others of the same names, which say what to do.
 */

/** The functions of migration 1 that a process calls: their arguments, and their results. */
const earlierFunctions = [
  [
    "try_acquire(text, text, bigint, bigint, bigint, boolean, out answer text, out number bigint, out retry_after bigint)",
    ""
  ],
  ["release(text, text, bigint, bigint)", "returns bigint"],
  ["refresh(text[], text[], bigint[], bigint[])", "returns table (index bigint, token bigint)"]
] as const

/** Returns the statements for the schema `s`, a quoted identifier. */
export const grants = (s: string): ReadonlyArray<string> => [
  // Waits for the operations that are under way.
  `lock table ${s}.holds, ${s}.places in access exclusive mode`,

  `drop function ${s}.try_acquire(text, text, bigint, bigint, bigint, boolean), ${s}.release(text, text, bigint, bigint),
  ${s}.refresh(text[], text[], bigint[], bigint[]), ${s}.get_count(text), ${s}.inspect(text), ${s}.sweep(interval), ${s}.version(),
  ${s}.wake(bytea, timestamptz), ${s}.enter(bytea, boolean), ${s}.lock_of(bytea)`,

  // A row for each holder and each waiter, but for a lone holder. Extending a lease and granting a place change no
  // indexed column. Half of a page is free, so that one transaction can extend all leases of a page in place.
  `create table ${s}.contenders (
  semaphore bigint not null,
  -- The digest of the name.
  holder bytea not null,
  token bigint not null,
  permits bigint not null,
  "limit" bigint not null,
  expires timestamptz not null,
  -- Whether it had to wait. This stays as it is when it is granted.
  queued boolean not null,
  -- When it joined the line. For holds from migration 1, this is unknown, as is the owner.
  since timestamptz,
  -- The channel of the process that asked last, if that listens.
  listener text,
  -- The name of that process.
  owner text,
  name text not null,
  primary key (semaphore, holder)
) with (fillfactor = 45, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)`,
  `create index contenders_in_line on ${s}.contenders (semaphore, token) where queued`,

  // A row for each key that is in use. It has all that the usual operation must know or change, and is updated in place:
  // no index has it.
  `create table ${s}.semaphores (
  -- The digest of the name.
  key bytea primary key,
  id bigint not null generated always as identity,
  name text not null,
  -- The permits of the holders.
  held bigint not null default 0,
  holders bigint not null default 0,
  waiting bigint not null default 0,
  -- The token of the last holder: contenders with a larger one wait.
  border bigint not null default 0,
  -- The smallest limit of the holders, and how many of them asked with it.
  smallest bigint,
  smallest_holders bigint not null default 0,
  -- No contender expires earlier.
  earliest timestamptz not null default 'infinity',
  used timestamptz not null default clock_timestamp(),
  -- The only contender, as long as nothing but its release follows. A later migration may only add columns without a
  -- default to this type, and must replace the function operate at once.
  lone ${s}.contenders
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.1)`,

  // The channels that hear of revocations, and of grants of a key. A crash of the server may empty this table, because
  // each process that listens says so again and again.
  `create unlogged table ${s}.listeners (
  -- The short name of the key, or nothing for the revocations of all keys.
  topic text not null,
  channel text not null,
  expires timestamptz not null,
  primary key (topic, channel)
)`,

  // The first operation on a key counts its sums, because the earliest expiry has passed.
  `insert into ${s}.semaphores (key, name, holders, border, earliest)
select h.key, min(h.key_name), count(*), max(h.token), '-infinity' from ${s}.holds h where h.expires > clock_timestamp() group by h.key`,
  // Migration 1 did not keep the limit that a holder asked with.
  `insert into ${s}.contenders (semaphore, holder, token, permits, "limit", expires, queued, name)
select s.id, h.holder, h.token, h.permits, 9223372036854775807, h.expires, false, h.holder_name
from ${s}.holds h join ${s}.semaphores s using (key) where h.expires > clock_timestamp()`,

  `drop table ${s}.holds, ${s}.places`,
  `drop sequence ${s}.tickets`,

  ...earlierFunctions.map(([name, returns]) =>
    `create function ${s}.${name} ${returns} language plpgsql as $earlier$
begin
  raise exception 'the schema of the semaphores has version 2, and this process runs a package that needs version 1: update it'
    using errcode = 'feature_not_supported';
end $earlier$`
  )
]
