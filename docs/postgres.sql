-- The schema of PostgresBacking, for those who run migrations by themselves. Written by scripts/write-postgres-sql.ts.
-- It creates what is missing, and so may be run again. Run it as the owner of the schema.
begin isolation level read committed;

set local search_path = pg_catalog;
set local lock_timeout = '10s';
select pg_advisory_xact_lock(7320413956);

do $schema$ begin
  if not exists (select from pg_namespace where nspname = 'effect_distributed_lock') then
    create schema "effect_distributed_lock";
  end if;
end $schema$;

create table if not exists "effect_distributed_lock".migrations (id integer primary key, name text not null, applied timestamptz not null default now());

-- Migration 1: initial.

do $migration$ begin
if exists (select from "effect_distributed_lock".migrations where id = 1) then return; end if;

create sequence "effect_distributed_lock".tokens;

create sequence "effect_distributed_lock".tickets;

create table "effect_distributed_lock".holds (
  key bytea not null,
  holder bytea not null,
  permits bigint not null,
  token bigint not null,
  expires timestamptz not null,
  key_name text not null,
  holder_name text not null,
  primary key (key, holder)
) with (fillfactor = 70);

create table "effect_distributed_lock".places (
  key bytea not null,
  holder bytea not null,
  ticket bigint not null,
  permits bigint not null,
  "limit" bigint not null,
  expires timestamptz not null,
  key_name text not null,
  holder_name text not null,
  primary key (key, holder)
) with (fillfactor = 70);

create index places_in_order on "effect_distributed_lock".places (key, ticket);

create index places_by_limit on "effect_distributed_lock".places (key, "limit");

create function "effect_distributed_lock".digest(name text) returns bytea
language sql immutable parallel safe
return sha256(convert_to(name, 'UTF8'));

create function "effect_distributed_lock".lock_of(key bytea) returns bigint
language sql immutable parallel safe
return ('x' || encode(substr(key, 1, 8), 'hex'))::bit(64)::bigint;

create function "effect_distributed_lock".enter(key bytea, shared boolean default false) returns timestamptz language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'semaphores need the isolation level READ COMMITTED, not %',
      upper(current_setting('transaction_isolation')) using errcode = 'feature_not_supported';
  end if;
  if shared then
    perform pg_advisory_xact_lock_shared("effect_distributed_lock".lock_of(key));
  else
    perform pg_advisory_xact_lock("effect_distributed_lock".lock_of(key));
  end if;
  return clock_timestamp();
end $semaphore$;

create function "effect_distributed_lock".wake(k bytea, t timestamptz) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
declare
  -- No waiter has a larger limit: behind one that does not fit into it, nobody can acquire.
  largest bigint := (select max(p."limit") from "effect_distributed_lock".places p where p.key = k);
  demand bigint;
  own bigint;
  w record;
  names text[] := '{}';
begin
  if largest is null then return; end if;
  demand := (select coalesce(sum(h.permits), 0) from "effect_distributed_lock".holds h where h.key = k and h.expires > t);
  for w in
    select p.holder, p.permits, p."limit" from "effect_distributed_lock".places p where p.key = k and p.expires > t order by p.ticket
  loop
    demand := demand + w.permits;
    -- What a waiter holds itself counts as free.
    own := coalesce(
      (select h.permits from "effect_distributed_lock".holds h where h.key = k and h.holder = w.holder and h.expires > t), 0);
    if demand - own <= w."limit" then names := names || encode(substr(w.holder, 1, 16), 'hex'); end if;
    -- A payload has less than 8000 bytes.
    if cardinality(names) >= 200 then
      perform pg_notify('effect_distributed_lock', encode(substr(k, 1, 16), 'hex') || ':' || array_to_string(names, ','));
      names := '{}';
    end if;
    exit when demand > largest;
  end loop;
  if cardinality(names) > 0 then
    perform pg_notify('effect_distributed_lock', encode(substr(k, 1, 16), 'hex') || ':' || array_to_string(names, ','));
  end if;
end $semaphore$;

create function "effect_distributed_lock".try_acquire(
  p_key text, p_holder text, p_ttl bigint, p_limit bigint, p_permits bigint, p_queue boolean,
  out answer text, out number bigint, out retry_after bigint
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
declare
  k constant bytea := "effect_distributed_lock".digest(p_key);
  h constant bytea := "effect_distributed_lock".digest(p_holder);
  t constant timestamptz := "effect_distributed_lock".enter(k);
  until constant timestamptz := t + p_ttl * interval '1 millisecond';
  own_permits bigint;
  own_token bigint;
  place_permits bigint;
  place_ticket bigint;
  room bigint;
  ahead bigint := 0;
  wanted bigint;
  first_end timestamptz;
begin
  select x.permits, x.token into own_permits, own_token from "effect_distributed_lock".holds x where x.key = k and x.holder = h and x.expires > t;
  select x.permits, x.ticket into place_permits, place_ticket from "effect_distributed_lock".places x where x.key = k and x.holder = h and x.expires > t;

  if own_permits is distinct from p_permits then
    room := p_limit - p_permits
      - (select coalesce(sum(x.permits), 0) from "effect_distributed_lock".holds x where x.key = k and x.holder <> h and x.expires > t);
    if room >= 0 then
      for wanted in
        select x.permits from "effect_distributed_lock".places x
        where x.key = k and x.holder <> h and x.expires > t and (place_ticket is null or x.ticket < place_ticket)
        order by x.ticket
      loop
        ahead := ahead + wanted;
        exit when ahead > room;
      end loop;
    end if;

    if room < 0 or ahead > room then
      if not p_queue then
        answer := 'refused';
        return;
      end if;
      insert into "effect_distributed_lock".places as x (key, holder, ticket, permits, "limit", expires, key_name, holder_name)
        values (k, h, coalesce(place_ticket, nextval('"effect_distributed_lock".tickets')), p_permits, p_limit, until, p_key, p_holder)
        on conflict (key, holder) do update set
          ticket = excluded.ticket, permits = excluded.permits, "limit" = excluded."limit", expires = excluded.expires
        returning x.ticket into place_ticket;
      if place_permits > p_permits then perform "effect_distributed_lock".wake(k, t); end if;

      answer := 'waiting';
      number := (
        select count(*) from "effect_distributed_lock".places x where x.key = k and x.ticket < place_ticket and x.expires > t
      );
      first_end := least(
        (select min(x.expires) from "effect_distributed_lock".holds x where x.key = k and x.expires > t),
        (select min(x.expires) from "effect_distributed_lock".places x where x.key = k and x.ticket < place_ticket and x.expires > t),
        t + p_ttl / 3 * interval '1 millisecond',
        case when number = 0 then t + interval '1 second' end
      );
      retry_after := greatest(1, ceil(extract(epoch from first_end - t) * 1000));
      return;
    end if;
    own_token := nextval('"effect_distributed_lock".tokens');
    -- What counts as expired now must not count again after the clock has gone back.
    delete from "effect_distributed_lock".holds x where x.key = k and x.expires <= t;
    delete from "effect_distributed_lock".places x where x.key = k and x.expires <= t;
  end if;

  insert into "effect_distributed_lock".holds as x (key, holder, permits, token, expires, key_name, holder_name)
    values (k, h, p_permits, own_token, until, p_key, p_holder)
    on conflict (key, holder) do update set
      permits = excluded.permits, token = excluded.token, expires = excluded.expires;
  delete from "effect_distributed_lock".places x where x.key = k and x.holder = h;
  if coalesce(own_permits, 0) + coalesce(place_permits, 0) > p_permits then perform "effect_distributed_lock".wake(k, t); end if;
  answer := 'acquired';
  number := own_token;
end $semaphore$;

create function "effect_distributed_lock".release(p_key text, p_holder text, p_permits bigint, p_token bigint) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
declare
  k constant bytea := "effect_distributed_lock".digest(p_key);
  h constant bytea := "effect_distributed_lock".digest(p_holder);
  t constant timestamptz := "effect_distributed_lock".enter(k);
  own bigint;
  waited boolean;
begin
  delete from "effect_distributed_lock".places x where x.key = k and x.holder = h and p_token is null;
  waited := found;
  select x.permits into own from "effect_distributed_lock".holds x
    where x.key = k and x.holder = h and x.token = coalesce(p_token, x.token) and x.expires > t;
  if own > p_permits then
    update "effect_distributed_lock".holds x set permits = own - p_permits where x.key = k and x.holder = h;
  else
    delete from "effect_distributed_lock".holds x where x.key = k and x.holder = h and x.token = coalesce(p_token, x.token);
  end if;
  if own > 0 or waited then perform "effect_distributed_lock".wake(k, t); end if;
  return least(coalesce(own, 0), p_permits);
end $semaphore$;

create function "effect_distributed_lock".refresh(p_keys text[], p_holders text[], p_ttls bigint[], p_tokens bigint[])
returns table (index bigint, token bigint) language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
declare
  t timestamptz;
begin
  -- All lock in the same order, or two of these could wait for each other.
  perform "effect_distributed_lock".enter(x.key) from (
    select distinct on ("effect_distributed_lock".lock_of("effect_distributed_lock".digest(name))) "effect_distributed_lock".digest(name) as key
    from unnest(p_keys) as name order by "effect_distributed_lock".lock_of("effect_distributed_lock".digest(name))
  ) x;
  t := clock_timestamp();
  update "effect_distributed_lock".holds x set expires = t + a.ttl * interval '1 millisecond'
    from unnest(p_keys, p_holders, p_ttls, p_tokens) as a (key, holder, ttl, token)
    where x.key = "effect_distributed_lock".digest(a.key) and x.holder = "effect_distributed_lock".digest(a.holder) and a.token in (0, x.token) and x.expires > t;
  return query
    select a.i, x.token from unnest(p_keys, p_holders, p_tokens) with ordinality as a (key, holder, token, i)
    join "effect_distributed_lock".holds x on x.key = "effect_distributed_lock".digest(a.key) and x.holder = "effect_distributed_lock".digest(a.holder)
    where a.token in (0, x.token) and x.expires > t;
end $semaphore$;

create function "effect_distributed_lock".get_count(p_key text) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
declare
  k constant bytea := "effect_distributed_lock".digest(p_key);
  t constant timestamptz := "effect_distributed_lock".enter(k, shared => true);
begin
  return (select coalesce(sum(x.permits), 0)::bigint from "effect_distributed_lock".holds x where x.key = k and x.expires > t);
end $semaphore$;

create function "effect_distributed_lock".inspect(p_key text)
returns table (holder text, permits bigint, token bigint, ticket bigint, micros bigint) language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
declare
  k constant bytea := "effect_distributed_lock".digest(p_key);
  t constant timestamptz := "effect_distributed_lock".enter(k, shared => true);
begin
  return query
    select x.holder_name, x.permits, x.token, null::bigint, (extract(epoch from x.expires - t) * 1000000)::bigint
      from "effect_distributed_lock".holds x where x.key = k and x.expires > t
    union all
    select x.holder_name, x.permits, null::bigint, x.ticket, (extract(epoch from x.expires - t) * 1000000)::bigint
      from "effect_distributed_lock".places x where x.key = k and x.expires > t
    order by 3, 4;
end $semaphore$;

create function "effect_distributed_lock".version() returns integer language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
begin
  perform "effect_distributed_lock".enter("effect_distributed_lock".digest(''));
  return (select max(m.id) from "effect_distributed_lock".migrations m);
end $semaphore$;

create function "effect_distributed_lock".sweep(p_age interval) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $semaphore$
begin
  delete from "effect_distributed_lock".holds x where x.ctid = any (array(
    select y.ctid from "effect_distributed_lock".holds y where y.expires < clock_timestamp() - p_age for update skip locked
  ));
  delete from "effect_distributed_lock".places x where x.ctid = any (array(
    select y.ctid from "effect_distributed_lock".places y where y.expires < clock_timestamp() - p_age for update skip locked
  ));
end $semaphore$;

insert into "effect_distributed_lock".migrations (id, name) values (1, 'initial');

end $migration$;

-- Migration 2: grants.

do $migration$ begin
if exists (select from "effect_distributed_lock".migrations where id = 2) then return; end if;

lock table "effect_distributed_lock".holds, "effect_distributed_lock".places in access exclusive mode;

drop function "effect_distributed_lock".try_acquire(text, text, bigint, bigint, bigint, boolean), "effect_distributed_lock".release(text, text, bigint, bigint),
  "effect_distributed_lock".refresh(text[], text[], bigint[], bigint[]), "effect_distributed_lock".get_count(text), "effect_distributed_lock".inspect(text), "effect_distributed_lock".sweep(interval), "effect_distributed_lock".version(),
  "effect_distributed_lock".wake(bytea, timestamptz), "effect_distributed_lock".enter(bytea, boolean), "effect_distributed_lock".lock_of(bytea);

create table "effect_distributed_lock".contenders (
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
) with (fillfactor = 45, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index contenders_in_line on "effect_distributed_lock".contenders (semaphore, token) where queued;

create table "effect_distributed_lock".semaphores (
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
  lone "effect_distributed_lock".contenders
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.1);

create unlogged table "effect_distributed_lock".listeners (
  -- The short name of the key, or nothing for the revocations of all keys.
  topic text not null,
  channel text not null,
  expires timestamptz not null,
  primary key (topic, channel)
);

insert into "effect_distributed_lock".semaphores (key, name, holders, border, earliest)
select h.key, min(h.key_name), count(*), max(h.token), '-infinity' from "effect_distributed_lock".holds h where h.expires > clock_timestamp() group by h.key;

insert into "effect_distributed_lock".contenders (semaphore, holder, token, permits, "limit", expires, queued, name)
select s.id, h.holder, h.token, h.permits, 9223372036854775807, h.expires, false, h.holder_name
from "effect_distributed_lock".holds h join "effect_distributed_lock".semaphores s using (key) where h.expires > clock_timestamp();

drop table "effect_distributed_lock".holds, "effect_distributed_lock".places;

drop sequence "effect_distributed_lock".tickets;

create function "effect_distributed_lock".try_acquire(text, text, bigint, bigint, bigint, boolean, out answer text, out number bigint, out retry_after bigint)  language plpgsql as $earlier$
begin
  raise exception 'the schema of the semaphores has version 2, and this process runs a package that needs version 1: update it'
    using errcode = 'feature_not_supported';
end $earlier$;

create function "effect_distributed_lock".release(text, text, bigint, bigint) returns bigint language plpgsql as $earlier$
begin
  raise exception 'the schema of the semaphores has version 2, and this process runs a package that needs version 1: update it'
    using errcode = 'feature_not_supported';
end $earlier$;

create function "effect_distributed_lock".refresh(text[], text[], bigint[], bigint[]) returns table (index bigint, token bigint) language plpgsql as $earlier$
begin
  raise exception 'the schema of the semaphores has version 2, and this process runs a package that needs version 1: update it'
    using errcode = 'feature_not_supported';
end $earlier$;

create function "effect_distributed_lock".check_isolation() returns void language plpgsql as $semaphore$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'semaphores need the isolation level READ COMMITTED, not %',
      upper(current_setting('transaction_isolation')) using errcode = 'feature_not_supported';
  end if;
end $semaphore$;

create function "effect_distributed_lock".count_limit(inout s "effect_distributed_lock".semaphores, "limit" bigint) language plpgsql as $semaphore$
begin
  if "limit" = s.smallest then
    s.smallest_holders := s.smallest_holders + 1;
  elsif s.smallest is null or "limit" < s.smallest then
    s.smallest := "limit";
    s.smallest_holders := 1;
  end if;
end $semaphore$;

create function "effect_distributed_lock".advance(inout s "effect_distributed_lock".semaphores, asker text, out granted text) language plpgsql as $semaphore$
declare
  waiter record;
  key_name constant text := encode(substr(s.key, 1, 16), 'hex');
  border constant bigint := s.border;
  channels text[] := '{}';
  tokens bigint[] := '{}';
begin
  if s.waiting = 0 or s.held >= s.smallest then return; end if;
  for waiter in
    select c.token, c.permits, c."limit", c.listener from contenders c
    where c.semaphore = s.id and c.queued and c.token > s.border order by c.token
  loop
    exit when s.held + waiter.permits > least(s.smallest, waiter."limit");
    s.border := waiter.token;
    s.held := s.held + waiter.permits;
    s.holders := s.holders + 1;
    s.waiting := s.waiting - 1;
    s := count_limit(s, waiter."limit");
    if waiter.listener = asker then
      granted := concat(granted, ',', waiter.token);
    elsif waiter.listener is not null then
      channels := channels || waiter.listener;
      tokens := tokens || waiter.token;
    end if;
  end loop;
  -- If the queue of notifications is full, a commit that notifies fails. Waiters also look by themselves.
  if s.border > border and pg_notification_queue_usage() < 0.9 then
    if channels <> '{}' then
      -- A payload has less than 8000 bytes.
      perform pg_notify(g.channel, key_name || ':' || string_agg(g.token::text, ','))
        from unnest(channels, tokens) with ordinality as g (channel, token, n) group by g.channel, n / 300;
    end if;
    perform pg_notify(l.channel, key_name || ':') from listeners l
      where l.topic = key_name and l.expires > clock_timestamp();
  end if;
end $semaphore$;

create function "effect_distributed_lock".notify_revoked(p_key text, p_holder text) returns void language plpgsql as $semaphore$
declare
  names constant text := '[' || p_key || ',' || p_holder || ']';
  part_length constant integer := 7000;
  last_part constant integer := (length(names) - 1) / part_length;
begin
  if pg_notification_queue_usage() >= 0.9 then return; end if;
  for n in 0 .. last_part loop
    perform pg_notify(
        l.channel,
        concat_ws(':', 'revoked', encode(digest(names), 'hex'), last_part - n, substr(names, n * part_length + 1, part_length))
      ) from listeners l where l.topic = '' and l.expires > clock_timestamp();
  end loop;
end $semaphore$;

create function "effect_distributed_lock".leave(inout s "effect_distributed_lock".semaphores, gone "effect_distributed_lock".contenders) language plpgsql as $semaphore$
begin
  if gone.token > s.border then
    s.waiting := s.waiting - 1;
    return;
  end if;
  s.held := s.held - gone.permits;
  s.holders := s.holders - 1;
  if gone."limit" = s.smallest then s.smallest_holders := s.smallest_holders - 1; end if;
  if s.smallest_holders = 0 then
    s.smallest := null;
    -- There can be holders left only if they asked with different limits.
    if s.holders > 0 then
      select c."limit", count(*) into s.smallest, s.smallest_holders from contenders c
        where c.semaphore = s.id and c.token <= s.border group by c."limit" order by c."limit" limit 1;
    end if;
  end if;
end $semaphore$;

create function "effect_distributed_lock".expire(inout s "effect_distributed_lock".semaphores, t timestamptz) language plpgsql as $semaphore$
begin
  -- A lone holder is the earliest to expire.
  s.lone := null;
  delete from contenders c where c.semaphore = s.id and c.expires <= t;
  select coalesce(sum(c.permits) filter (where c.token <= s.border), 0), count(*) filter (where c.token <= s.border),
      count(*) filter (where c.token > s.border), min(c."limit") filter (where c.token <= s.border),
      coalesce(min(c.expires), 'infinity')
    into s.held, s.holders, s.waiting, s.smallest, s.earliest
    from contenders c where c.semaphore = s.id;
  s.smallest_holders := (
    select count(*) from contenders c where c.semaphore = s.id and c.token <= s.border and c."limit" = s.smallest
  );
  s := (advance(s, null)).s;
end $semaphore$;

create function "effect_distributed_lock".place(
  s "effect_distributed_lock".semaphores, own "effect_distributed_lock".contenders, ttl bigint, t timestamptz, inout "position" bigint, out retry_after bigint
) language plpgsql as $semaphore$
declare
  until timestamptz := t + ttl / 3 * interval '1 millisecond';
begin
  if "position" is null then
    "position" := (
      select count(*) from (
        select from contenders c where c.semaphore = s.id and c.queued and c.token > s.border and c.token < own.token limit 1000
      ) ahead
    );
  end if;
  if "position" = 0 then until := least(until, t + interval '1 second'); end if;
  if "position" + own.permits <= own."limit" then
    -- Near the head of the line, any expiry may free the way.
    until := least(until, s.earliest);
  else
    -- Farther back, it is enough to look if the waiter directly ahead is gone: otherwise that one looks, and any look
    -- grants to all.
    until := least(until, (
      select c.expires from contenders c
      where c.semaphore = s.id and c.queued and c.token > s.border and c.token < own.token order by c.token desc limit 1
    ));
  end if;
  retry_after := greatest(1, ceil(extract(epoch from until - t) * 1000));
end $semaphore$;

create function "effect_distributed_lock".look(p_key text) returns timestamptz language plpgsql as $semaphore$
declare
  t constant timestamptz := clock_timestamp();
begin
  perform check_isolation();
  if exists (select from semaphores x where x.key = digest(p_key) and x.earliest <= t) then
    perform from semaphores x where x.key = digest(p_key) for share;
    return clock_timestamp();
  end if;
  return t;
end $semaphore$;

create function "effect_distributed_lock".operate(
  p_operations text[], p_keys text[], p_holders text[], p_permits bigint[], p_limits bigint[], p_ttls bigint[],
  p_tokens bigint[], p_latest bigint[], p_listener text, p_owner text, p_wait boolean
) returns table (
  answer text, number bigint, fewer_permits bigint, "position" bigint, retry_after bigint, smaller_limit bigint, granted text,
  micros bigint
)
language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
declare
  s semaphores;
  own contenders;
  advanced record;
  digest_of_holder bytea;
  t timestamptz;
  until timestamptz;
  is_busy boolean;
  is_changed boolean := false;
  is_known boolean;
  is_gone boolean;
  asks boolean;
begin
  if current_setting('transaction_isolation') <> 'read committed' then perform check_isolation(); end if;
  for i in 1 .. cardinality(p_keys) loop
    if i = 1 or p_keys[i] <> p_keys[i - 1] then
      loop
        if p_wait then
          select x.* into s from semaphores x where x.key = sha256(convert_to(p_keys[i], 'UTF8')) for update;
        else
          select x.* into s from semaphores x where x.key = sha256(convert_to(p_keys[i], 'UTF8')) for update skip locked;
        end if;
        is_busy := not found;
        -- Separate from the next one, because an expression with a query in it costs as much as a statement.
        exit when not is_busy;
        -- An insert would wait for the transaction that has changed the row.
        exit when not p_wait and exists (select from semaphores x where x.key = digest(p_keys[i]));
        insert into semaphores as x (key, name) values (digest(p_keys[i]), p_keys[i]) on conflict do nothing returning x.* into s;
        is_busy := not found;
        exit when not is_busy or not p_wait;
      end loop;
      t := clock_timestamp();
      micros := extract(epoch from t) * 1000000;
      if not is_busy and t >= s.earliest then
        s := expire(s, t);
        is_changed := true;
      end if;
    end if;

    -- The usual case: the only operation on a semaphore that nobody else uses. It takes few steps, because each
    -- transaction prepares each expression anew.
    if not is_busy and not is_changed and s.waiting = 0 and p_keys[i + 1] is distinct from p_keys[i] then
      if s.holders = 0 and p_operations[i] in ('acquire', 'queue') and p_permits[i] <= p_limits[i]
        and (p_latest[i] = 0 or micros <= p_latest[i])
      then
        number := nextval('tokens');
        until := t + p_ttls[i] * interval '1 millisecond';
        update semaphores x set held = p_permits[i], holders = 1, border = number,
            smallest = p_limits[i], smallest_holders = 1, earliest = until, used = t, lone = row(
              x.id, sha256(convert_to(p_holders[i], 'UTF8')), number, p_permits[i], p_limits[i], until, false, t, p_listener,
              p_owner, p_holders[i]
            )
          where x.key = s.key
          returning 'acquired' into answer;
        return next;
        continue;
      end if;
      if p_operations[i] = 'release' and (s.lone).name = p_holders[i] and p_tokens[i] in (0, (s.lone).token)
        and (s.lone).permits <= p_permits[i]
      then
        update semaphores x set held = 0, holders = 0, smallest = null, smallest_holders = 0, earliest = 'infinity', used = t,
            lone = null
          where x.key = s.key
          returning 'released', (s.lone).permits into answer, number;
        return next;
        continue;
      end if;
    end if;

    if not is_busy and (s.lone).token > 0 then
      -- The lone holder becomes a contender like any other.
      insert into contenders values ((s.lone).*);
      s.lone := null;
      is_changed := true;
    end if;

    answer := null;
    number := null;
    is_gone := false;
    asks := p_operations[i] in ('acquire', 'queue');
    digest_of_holder := sha256(convert_to(p_holders[i], 'UTF8'));
    until := t + p_ttls[i] * interval '1 millisecond';

    if is_busy then
      answer := 'busy';

    elsif p_operations[i] in ('release', 'revoke') then
      answer := 'released';
      number := 0;
      delete from contenders c
        where c.semaphore = s.id and c.holder = digest_of_holder and p_tokens[i] in (0, c.token)
          and (c.permits <= p_permits[i] or c.token > s.border)
        returning c.* into own;
      if found then
        is_gone := true;
        if own.token <= s.border then number := own.permits; end if;
      elsif s.holders > 0 then
        update contenders c set permits = c.permits - p_permits[i]
          where c.semaphore = s.id and c.holder = digest_of_holder and p_tokens[i] in (0, c.token);
        if found then
          number := p_permits[i];
          s.held := s.held - number;
          advanced := advance(s, p_listener);
          s := advanced.s;
          granted := advanced.granted;
          is_changed := true;
        end if;
      end if;
      if p_operations[i] = 'revoke' then perform notify_revoked(p_keys[i], p_holders[i]); end if;

    elsif p_operations[i] = 'refresh' then
      answer := 'none';
      -- Another process may take over a hold or a place.
      update contenders c set expires = until, listener = p_listener, owner = p_owner
        where c.semaphore = s.id and c.holder = digest_of_holder and p_tokens[i] in (0, c.token)
        returning c.* into own;
      if found then answer := 'waiting'; end if;

    elsif p_latest[i] > 0 and micros > p_latest[i] then
      answer := 'late';

    else
      is_known := false;
      if s.holders + s.waiting > 0 then
        select c.* into own from contenders c where c.semaphore = s.id and c.holder = digest_of_holder;
        is_known := found;
      end if;
      if is_known and own.permits = p_permits[i] then
        if p_operations[i] = 'acquire' and own.token > s.border then
          answer := 'refused';
        else
          answer := 'waiting';
          if own.token <= s.border and p_limits[i] < own."limit" then
            s := count_limit(s, p_limits[i]);
            is_changed := true;
          end if;
          update contenders c set expires = until, "limit" = least(c."limit", p_limits[i]), listener = p_listener,
              owner = p_owner
            where c.semaphore = s.id and c.holder = digest_of_holder
            returning c.* into own;
        end if;
      elsif p_operations[i] = 'acquire' then
        if not is_known then
          -- If there is a waiter, it does not fit, and so no request behind it does.
          if s.waiting > 0 or s.held + p_permits[i] > least(s.smallest, p_limits[i]) then answer := 'refused'; end if;
        -- Each of the others has at least one permit: if these are too many already, no sum is needed.
        elsif s.holders + s.waiting - 1 + p_permits[i] > p_limits[i] or (
          select sum(c.permits) + p_permits[i] > least(min(c."limit"), p_limits[i])
          from contenders c where c.semaphore = s.id and c.holder <> digest_of_holder
        ) then
          answer := 'refused';
        end if;
      end if;
      if is_known and answer is null then
        -- Asked again with another number, it starts over.
        delete from contenders c where c.semaphore = s.id and c.holder = digest_of_holder;
        is_gone := true;
      end if;
    end if;

    if is_gone then
      s := leave(s, own);
      if s.waiting > 0 then
        advanced := advance(s, p_listener);
        s := advanced.s;
        granted := advanced.granted;
      end if;
      if s.holders + s.waiting = 0 then s.earliest := 'infinity'; end if;
      is_changed := true;
    end if;

    if asks and answer is null then
      answer := 'waiting';
      insert into contenders as c (semaphore, holder, token, permits, "limit", expires, queued, since, listener, owner, name)
        values (
          s.id, digest_of_holder, nextval('tokens'), p_permits[i], p_limits[i], until,
          s.waiting > 0 or s.held + p_permits[i] > least(s.smallest, p_limits[i]), t, p_listener, p_owner, p_holders[i]
        )
        returning c.* into own;
      if own.queued then
        "position" := s.waiting;
        s.waiting := s.waiting + 1;
      else
        s.border := own.token;
        s.held := s.held + own.permits;
        s.holders := s.holders + 1;
        s := count_limit(s, own."limit");
      end if;
      is_changed := true;
    end if;

    if answer = 'waiting' then
      number := own.token;
      smaller_limit := nullif(least(s.smallest, own."limit", p_limits[i]), p_limits[i]);
      if until < s.earliest then
        s.earliest := until;
        is_changed := true;
      end if;
      if own.token <= s.border then
        answer := 'acquired';
        if own.permits < p_permits[i] then fewer_permits := own.permits; end if;
      else
        select * into "position", retry_after from place(s, own, p_ttls[i], t, "position");
      end if;
    end if;
    return next;
    fewer_permits := null;
    "position" := null;
    retry_after := null;
    smaller_limit := null;
    granted := null;

    if is_changed and p_keys[i + 1] is distinct from p_keys[i] then
      update semaphores x set held = s.held, holders = s.holders, waiting = s.waiting, border = s.border,
          smallest = s.smallest, smallest_holders = s.smallest_holders, earliest = s.earliest, used = t, lone = s.lone
        where x.key = s.key;
      is_changed := false;
    end if;
  end loop;
end $semaphore$;

create function "effect_distributed_lock".get_count(p_key text) returns bigint language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
declare
  t constant timestamptz := look(p_key);
begin
  return coalesce((
    select case when x.earliest > t then x.held else (
      select sum(c.permits) from contenders c where c.semaphore = x.id and c.token <= x.border and c.expires > t
    ) end
    from semaphores x where x.key = digest(p_key)
  ), 0);
end $semaphore$;

create function "effect_distributed_lock".inspect(p_key text, p_most bigint) returns table (
  holder text, permits bigint, token bigint, holds boolean, micros bigint, since bigint, owner text, holders bigint, waiters bigint
) language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
declare
  t constant timestamptz := look(p_key);
begin
  return query
    with x as materialized (
      select y.id, y.border, y.lone, n.holders, n.waiters from semaphores y, lateral (
        select y.holders, y.waiting as waiters where y.earliest > t
        union all
        -- The sums may include what has expired, so count.
        select count(*) filter (where o.token <= y.border), count(*) filter (where o.token > y.border)
        from contenders o where o.semaphore = y.id and o.expires > t having y.earliest <= t
      ) n where y.key = digest(p_key)
    ), granted as materialized (
      select o.* from x, lateral (
        select * from contenders c
        where c.semaphore = x.id and c.queued and c.token <= x.border and c.expires > t order by c.token limit p_most
      ) o
    ), others as materialized (
      -- No index leads to the holders that never had to wait, so look for them only if there are some: the line may be
      -- long.
      select o.* from x, contenders o
      where o.semaphore = x.id and not o.queued and o.expires > t and x.holders > (select count(*) from granted)
      order by o.token limit p_most
    ), line as materialized (
      select o.* from x, lateral (
        select * from contenders c
        where c.semaphore = x.id and c.queued and c.token > x.border and c.expires > t order by c.token limit p_most
      ) o
    ), listed as (
      (select * from granted union all select * from others order by token limit p_most) union all select * from line
      union all select (x.lone).* from x where (x.lone).expires > t
    )
    select c.name, c.permits, c.token, c.token <= x.border, (extract(epoch from c.expires - t) * 1000000)::bigint,
      floor(extract(epoch from c.since) * 1000)::bigint, c.owner, x.holders, x.waiters
    from x, listed c order by c.token;
end $semaphore$;

create function "effect_distributed_lock".keys(p_after text, p_most bigint) returns table (digest text, name text) language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
declare
  t constant timestamptz := clock_timestamp();
begin
  perform check_isolation();
  return query
    select encode(x.key, 'hex'), x.name from semaphores x
    where x.key > decode(p_after, 'hex') and x.holders + x.waiting > 0
      and (x.earliest > t or exists (select from contenders c where c.semaphore = x.id and c.expires > t))
    order by x.key limit p_most;
end $semaphore$;

create function "effect_distributed_lock".greet(p_channel text, p_greeting text, p_keys text[]) returns void language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
begin
  insert into listeners as l (topic, channel, expires)
    select k.topic, p_channel, clock_timestamp() + interval '30 seconds' from unnest(array_append(p_keys, '')) as k (topic)
    on conflict (topic, channel) do update set expires = excluded.expires;
  perform pg_notify(p_channel, p_greeting);
end $semaphore$;

create function "effect_distributed_lock".version() returns integer language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
begin
  perform check_isolation();
  return (select max(m.id) from migrations m);
end $semaphore$;

create function "effect_distributed_lock".server_time() returns bigint language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
begin
  return extract(epoch from clock_timestamp()) * 1000000;
end $semaphore$;

create function "effect_distributed_lock".sweep(p_age interval) returns bigint language plpgsql security definer set search_path = pg_catalog, "effect_distributed_lock", pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $semaphore$
declare
  t constant timestamptz := clock_timestamp();
  s semaphores;
  swept bigint := 0;
begin
  for s in
    select x.* from semaphores x
    where x.earliest < t - p_age or x.holders + x.waiting = 0 and x.used < t - p_age
    limit 1000 for update skip locked
  loop
    if s.earliest < t then s := expire(s, t); end if;
    if s.holders + s.waiting = 0 then
      delete from semaphores x where x.key = s.key;
    else
      update semaphores x set held = s.held, holders = s.holders, waiting = s.waiting, border = s.border,
          smallest = s.smallest, smallest_holders = s.smallest_holders, earliest = s.earliest, used = t
        where x.key = s.key;
    end if;
    swept := swept + 1;
  end loop;
  delete from listeners l where l.ctid = any (array(
    select m.ctid from listeners m where m.expires < t for update skip locked
  ));
  return swept;
end $semaphore$;

insert into "effect_distributed_lock".migrations (id, name) values (2, 'grants');

end $migration$;

commit;

-- An application needs no more than this:
-- grant usage on schema "effect_distributed_lock" to my_application;
-- grant execute on all functions in schema "effect_distributed_lock" to my_application;
