/**
 * Migration 1, as it was published: holds and places are rows of two tables, each operation is a function, and waiters
 * are notified to ask again. `grantsMigration.ts` replaces all of it, except for the sequence of tokens.
 */

/** Each function begins with this. */
const header = `language plpgsql security definer set search_path = pg_catalog, pg_temp`

/**
 * Returns the statements for the schema `s`, a quoted identifier. `channel` is the name of the schema, and `tokens` and
 * `tickets` are the names of the sequences, all of them as literals. `body` is the dollar quote around the body of each
 * function.
 */
export const initial = ({ body, channel, s, tickets, tokens }: {
  readonly s: string
  readonly channel: string
  readonly tokens: string
  readonly tickets: string
  readonly body: string
}): ReadonlyArray<string> => [
  `create sequence ${s}.tokens`,
  `create sequence ${s}.tickets`,

  // No index has the column expires, so extending a lease is a heap-only update.
  `create table ${s}.holds (
  key bytea not null,
  holder bytea not null,
  permits bigint not null,
  token bigint not null,
  expires timestamptz not null,
  key_name text not null,
  holder_name text not null,
  primary key (key, holder)
) with (fillfactor = 70)`,

  `create table ${s}.places (
  key bytea not null,
  holder bytea not null,
  ticket bigint not null,
  permits bigint not null,
  "limit" bigint not null,
  expires timestamptz not null,
  key_name text not null,
  holder_name text not null,
  primary key (key, holder)
) with (fillfactor = 70)`,
  `create index places_in_order on ${s}.places (key, ticket)`,
  `create index places_by_limit on ${s}.places (key, "limit")`,

  // Returns what stands for the name of a key or a holder in notifications and indexes.
  `create function ${s}.digest(name text) returns bytea
language sql immutable parallel safe
return sha256(convert_to(name, 'UTF8'))`,

  // Returns the number of the key's advisory lock. Two keys that share one only wait for each other now and then.
  `create function ${s}.lock_of(key bytea) returns bigint
language sql immutable parallel safe
return ('x' || encode(substr(key, 1, 8), 'hex'))::bit(64)::bigint`,

  // B9: locks the key until the commit. Looks share the lock. Answers the time.
  `create function ${s}.enter(key bytea, shared boolean default false) returns timestamptz ${header} as ${body}
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'semaphores need the isolation level READ COMMITTED, not %',
      upper(current_setting('transaction_isolation')) using errcode = 'feature_not_supported';
  end if;
  if shared then
    perform pg_advisory_xact_lock_shared(${s}.lock_of(key));
  else
    perform pg_advisory_xact_lock(${s}.lock_of(key));
  end if;
  return clock_timestamp();
end ${body}`,

  // B4, C2: notifies the waiters that can acquire now. The payload is the key's name, a colon, and the holders' names.
  `create function ${s}.wake(k bytea, t timestamptz) returns void ${header} as ${body}
declare
  -- No waiter has a larger limit: behind one that does not fit into it, nobody can acquire.
  largest bigint := (select max(p."limit") from ${s}.places p where p.key = k);
  demand bigint;
  own bigint;
  w record;
  names text[] := '{}';
begin
  if largest is null then return; end if;
  demand := (select coalesce(sum(h.permits), 0) from ${s}.holds h where h.key = k and h.expires > t);
  for w in
    select p.holder, p.permits, p."limit" from ${s}.places p where p.key = k and p.expires > t order by p.ticket
  loop
    demand := demand + w.permits;
    -- What a waiter holds itself counts as free.
    own := coalesce(
      (select h.permits from ${s}.holds h where h.key = k and h.holder = w.holder and h.expires > t), 0);
    if demand - own <= w."limit" then names := names || encode(substr(w.holder, 1, 16), 'hex'); end if;
    -- A payload has less than 8000 bytes.
    if cardinality(names) >= 200 then
      perform pg_notify(${channel}, encode(substr(k, 1, 16), 'hex') || ':' || array_to_string(names, ','));
      names := '{}';
    end if;
    exit when demand > largest;
  end loop;
  if cardinality(names) > 0 then
    perform pg_notify(${channel}, encode(substr(k, 1, 16), 'hex') || ':' || array_to_string(names, ','));
  end if;
end ${body}`,

  // B1, B2, B3. Answers acquired and the token, or waiting, the position and the milliseconds until the next look, or
  // refused.
  `create function ${s}.try_acquire(
  p_key text, p_holder text, p_ttl bigint, p_limit bigint, p_permits bigint, p_queue boolean,
  out answer text, out number bigint, out retry_after bigint
) ${header} as ${body}
declare
  k constant bytea := ${s}.digest(p_key);
  h constant bytea := ${s}.digest(p_holder);
  t constant timestamptz := ${s}.enter(k);
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
  select x.permits, x.token into own_permits, own_token from ${s}.holds x where x.key = k and x.holder = h and x.expires > t;
  select x.permits, x.ticket into place_permits, place_ticket from ${s}.places x where x.key = k and x.holder = h and x.expires > t;

  if own_permits is distinct from p_permits then
    room := p_limit - p_permits
      - (select coalesce(sum(x.permits), 0) from ${s}.holds x where x.key = k and x.holder <> h and x.expires > t);
    if room >= 0 then
      for wanted in
        select x.permits from ${s}.places x
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
      insert into ${s}.places as x (key, holder, ticket, permits, "limit", expires, key_name, holder_name)
        values (k, h, coalesce(place_ticket, nextval(${tickets})), p_permits, p_limit, until, p_key, p_holder)
        on conflict (key, holder) do update set
          ticket = excluded.ticket, permits = excluded.permits, "limit" = excluded."limit", expires = excluded.expires
        returning x.ticket into place_ticket;
      if place_permits > p_permits then perform ${s}.wake(k, t); end if;

      answer := 'waiting';
      number := (
        select count(*) from ${s}.places x where x.key = k and x.ticket < place_ticket and x.expires > t
      );
      first_end := least(
        (select min(x.expires) from ${s}.holds x where x.key = k and x.expires > t),
        (select min(x.expires) from ${s}.places x where x.key = k and x.ticket < place_ticket and x.expires > t),
        t + p_ttl / 3 * interval '1 millisecond',
        case when number = 0 then t + interval '1 second' end
      );
      retry_after := greatest(1, ceil(extract(epoch from first_end - t) * 1000));
      return;
    end if;
    own_token := nextval(${tokens});
    -- What counts as expired now must not count again after the clock has gone back.
    delete from ${s}.holds x where x.key = k and x.expires <= t;
    delete from ${s}.places x where x.key = k and x.expires <= t;
  end if;

  insert into ${s}.holds as x (key, holder, permits, token, expires, key_name, holder_name)
    values (k, h, p_permits, own_token, until, p_key, p_holder)
    on conflict (key, holder) do update set
      permits = excluded.permits, token = excluded.token, expires = excluded.expires;
  delete from ${s}.places x where x.key = k and x.holder = h;
  if coalesce(own_permits, 0) + coalesce(place_permits, 0) > p_permits then perform ${s}.wake(k, t); end if;
  answer := 'acquired';
  number := own_token;
end ${body}`,

  // B4. Answers how many permits were freed. With a token it means that one hold.
  `create function ${s}.release(p_key text, p_holder text, p_permits bigint, p_token bigint) returns bigint ${header} as ${body}
declare
  k constant bytea := ${s}.digest(p_key);
  h constant bytea := ${s}.digest(p_holder);
  t constant timestamptz := ${s}.enter(k);
  own bigint;
  waited boolean;
begin
  delete from ${s}.places x where x.key = k and x.holder = h and p_token is null;
  waited := found;
  select x.permits into own from ${s}.holds x
    where x.key = k and x.holder = h and x.token = coalesce(p_token, x.token) and x.expires > t;
  if own > p_permits then
    update ${s}.holds x set permits = own - p_permits where x.key = k and x.holder = h;
  else
    delete from ${s}.holds x where x.key = k and x.holder = h and x.token = coalesce(p_token, x.token);
  end if;
  if own > 0 or waited then perform ${s}.wake(k, t); end if;
  return least(coalesce(own, 0), p_permits);
end ${body}`,

  // B5, for several holds at once, each by its token unless that is 0. Answers the index, from 1, and the token of each
  // that still exists.
  `create function ${s}.refresh(p_keys text[], p_holders text[], p_ttls bigint[], p_tokens bigint[])
returns table (index bigint, token bigint) ${header} as ${body}
declare
  t timestamptz;
begin
  -- All lock in the same order, or two of these could wait for each other.
  perform ${s}.enter(x.key) from (
    select distinct on (${s}.lock_of(${s}.digest(name))) ${s}.digest(name) as key
    from unnest(p_keys) as name order by ${s}.lock_of(${s}.digest(name))
  ) x;
  t := clock_timestamp();
  update ${s}.holds x set expires = t + a.ttl * interval '1 millisecond'
    from unnest(p_keys, p_holders, p_ttls, p_tokens) as a (key, holder, ttl, token)
    where x.key = ${s}.digest(a.key) and x.holder = ${s}.digest(a.holder) and a.token in (0, x.token) and x.expires > t;
  return query
    select a.i, x.token from unnest(p_keys, p_holders, p_tokens) with ordinality as a (key, holder, token, i)
    join ${s}.holds x on x.key = ${s}.digest(a.key) and x.holder = ${s}.digest(a.holder)
    where a.token in (0, x.token) and x.expires > t;
end ${body}`,

  // B10: a look waits for commits under way, or a hold that is just being extended would seem to have expired.
  `create function ${s}.get_count(p_key text) returns bigint ${header} as ${body}
declare
  k constant bytea := ${s}.digest(p_key);
  t constant timestamptz := ${s}.enter(k, shared => true);
begin
  return (select coalesce(sum(x.permits), 0)::bigint from ${s}.holds x where x.key = k and x.expires > t);
end ${body}`,

  `create function ${s}.inspect(p_key text)
returns table (holder text, permits bigint, token bigint, ticket bigint, micros bigint) ${header} as ${body}
declare
  k constant bytea := ${s}.digest(p_key);
  t constant timestamptz := ${s}.enter(k, shared => true);
begin
  return query
    select x.holder_name, x.permits, x.token, null::bigint, (extract(epoch from x.expires - t) * 1000000)::bigint
      from ${s}.holds x where x.key = k and x.expires > t
    union all
    select x.holder_name, x.permits, null::bigint, x.ticket, (extract(epoch from x.expires - t) * 1000000)::bigint
      from ${s}.places x where x.key = k and x.expires > t
    order by 3, 4;
end ${body}`,

  `create function ${s}.version() returns integer ${header} as ${body}
begin
  perform ${s}.enter(${s}.digest(''));
  return (select max(m.id) from ${s}.migrations m);
end ${body}`,

  // C5: removes what expired a while ago, which counts for nothing and only takes room. It locks no key, and leaves
  // rows that others have locked for the next time: so it waits for no operation.
  `create function ${s}.sweep(p_age interval) returns void ${header} as ${body}
begin
  delete from ${s}.holds x where x.ctid = any (array(
    select y.ctid from ${s}.holds y where y.expires < clock_timestamp() - p_age for update skip locked
  ));
  delete from ${s}.places x where x.ctid = any (array(
    select y.ctid from ${s}.places y where y.expires < clock_timestamp() - p_age for update skip locked
  ));
end ${body}`
]
