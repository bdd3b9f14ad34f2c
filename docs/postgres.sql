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
  -- Of no waiter is the limit larger: behind one that is beyond it nobody can go.
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
  -- In one order everywhere, or two of these could wait for each other.
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

commit;

-- An application needs no more than this:
-- grant usage on schema "effect_distributed_lock" to my_application;
-- grant execute on all functions in schema "effect_distributed_lock" to my_application;
