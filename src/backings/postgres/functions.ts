/**
 * The functions of schema version 2. `operate` does all pending operations of a process, in one statement and so in one
 * commit.
 *
 * Operations on one key follow each other: each locks the row of the semaphore first, and takes the time after that.
 * Under READ COMMITTED every statement behind the lock sees what the operation before it has committed; at another
 * level it would not, so the functions refuse to run there. Names are compared by their SHA-256, because an index can't
 * hold 10 kB.
 *
 * All contenders up to the border hold. So a grant moves the border, and touches no row but the semaphore's. That row
 * also has the sums and the earliest expiry. A refresh does not put that expiry off, so the true one may be later:
 * when it has passed, the sums and the expiry are determined anew.
 *
 * A holder that finds nobody else stands in the row of the semaphore, counted like any other: so a short hold inserts and
 * deletes nothing. Any operation but its release gives it a row among the contenders first.
 *
 * Functions that processes call run as their owner: a caller needs no right but EXECUTE.
 */

import { internalFunctions } from "./internalFunctions.ts"

/** Returns the statements for the schema `s`, an identifier. `body` is the dollar quote around each function's body. */
export const functions = (s: string, body: string): ReadonlyArray<string> => {
  // A session plans a statement once, maybe while the table is nearly empty: the plan must be as good for a long line.
  // Plans that can't do without what is switched off cost so much that PostgreSQL would compile them, so jit is off,
  // too.
  const plans = "set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off"
  const entry = `language plpgsql security definer set search_path = pg_catalog, ${s}, pg_temp ${plans}`
  return [
    ...internalFunctions(s, body),

    // B1 to B6, B12: operations of a process, in the order of their keys, and those of one key in the order of the
    // requests.
    //
    // In, one element for each operation: acquire, queue, release, revoke or refresh; key; holder; permits; limit; ttl
    // in milliseconds; the token that is meant, or 0; the latest time at which it may take effect, in microseconds, or
    // 0. Then the channel of the process, or null; its name; and whether to wait for keys that somebody else has
    // locked.
    //
    // Out, for each operation: acquired and the token; waiting, the token, the position and the milliseconds until the
    // next look; refused; late; released and the permits that were freed; none, where there is nothing to refresh; or
    // busy, if the key is locked: then nothing was done. A contender that acquired or waits also gets the limit that
    // counts, if it is smaller than its own, and a refresh the number of permits that are held, if these are fewer than
    // its own. And the tokens of waiters of the process that the operation has granted, if any, after commas; and the
    // time in microseconds.
    `create function ${s}.operate(
  p_operations text[], p_keys text[], p_holders text[], p_permits bigint[], p_limits bigint[], p_ttls bigint[],
  p_tokens bigint[], p_latest bigint[], p_listener text, p_owner text, p_wait boolean
) returns table (
  answer text, number bigint, fewer_permits bigint, "position" bigint, retry_after bigint, smaller_limit bigint, granted text,
  micros bigint
)
${entry} as ${body}
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
end ${body}`,

    // B10. In: the key. Out: the permits that are held.
    `create function ${s}.get_count(p_key text) returns bigint ${entry} as ${body}
declare
  t constant timestamptz := look(p_key);
begin
  return coalesce((
    select case when x.earliest > t then x.held else (
      select sum(c.permits) from contenders c where c.semaphore = x.id and c.token <= x.border and c.expires > t
    ) end
    from semaphores x where x.key = digest(p_key)
  ), 0);
end ${body}`,

    // B10, in one statement, so that all of it is of one moment.
    //
    // In: the key; how many holders, and how many waiters, are listed at most. Out, in the order of the line: the name
    // of each contender, its permits and its token, whether it holds, the microseconds until it expires, the
    // milliseconds since 1970 at which it joined the line, and its owner; and how many hold and how many wait, listed
    // or not.
    `create function ${s}.inspect(p_key text, p_most bigint) returns table (
  holder text, permits bigint, token bigint, holds boolean, micros bigint, since bigint, owner text, holders bigint, waiters bigint
) ${entry} as ${body}
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
end ${body}`,

    // B10. In: the digest of the last key of the page before, in hexadecimal digits, or nothing; how many keys make a
    // page. Out: the keys that have unexpired contenders, in the order of their digests.
    `create function ${s}.keys(p_after text, p_most bigint) returns table (digest text, name text) ${entry} as ${body}
declare
  t constant timestamptz := clock_timestamp();
begin
  perform check_isolation();
  return query
    select encode(x.key, 'hex'), x.name from semaphores x
    where x.key > decode(p_after, 'hex') and x.holders + x.waiting > 0
      and (x.earliest > t or exists (select from contenders c where c.semaphore = x.id and c.expires > t))
    order by x.key limit p_most;
end ${body}`,

    // B7, B13. In: the channel of a process; what to notify it of; the short names of the keys that it watches. The
    // channel is then notified of revocations, and of what is granted on those keys, for half a minute.
    `create function ${s}.greet(p_channel text, p_greeting text, p_keys text[]) returns void ${entry} as ${body}
begin
  insert into listeners as l (topic, channel, expires)
    select k.topic, p_channel, clock_timestamp() + interval '30 seconds' from unnest(array_append(p_keys, '')) as k (topic)
    on conflict (topic, channel) do update set expires = excluded.expires;
  perform pg_notify(p_channel, p_greeting);
end ${body}`,

    `create function ${s}.version() returns integer ${entry} as ${body}
begin
  perform check_isolation();
  return (select max(m.id) from migrations m);
end ${body}`,

    // Out: the time in microseconds.
    `create function ${s}.server_time() returns bigint ${entry} as ${body}
begin
  return extract(epoch from clock_timestamp()) * 1000000;
end ${body}`,

    // C5: removes what expired a while ago, and the rows of keys that nobody has used for that long. It waits for no
    // operation: what is locked is left for the next time. It takes at most a thousand keys, so that none is locked for
    // long. It also removes channels that listen no longer.
    //
    // In: how long ago. Out: the number of keys: if it is a thousand, there may be more.
    `create function ${s}.sweep(p_age interval) returns bigint ${entry} as ${body}
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
end ${body}`
  ]
}
