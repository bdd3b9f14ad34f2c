/**
 * The functions that those of `functions.ts` share. Nobody else calls them, so they run with the search path, the
 * rights and the settings of their callers.
 */

/** Returns the statements for the schema `s`, an identifier. `body` is the dollar quote around each function's body. */
export const internalFunctions = (s: string, body: string): ReadonlyArray<string> => {
  const internal = "language plpgsql"
  return [
    `create function ${s}.check_isolation() returns void ${internal} as ${body}
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'semaphores need the isolation level READ COMMITTED, not %',
      upper(current_setting('transaction_isolation')) using errcode = 'feature_not_supported';
  end if;
end ${body}`,

    // Updates the smallest limit of the holders, for one more that asked with a limit.
    //
    // In and out: the semaphore, locked. In: the limit.
    `create function ${s}.count_limit(inout s ${s}.semaphores, "limit" bigint) ${internal} as ${body}
begin
  if "limit" = s.smallest then
    s.smallest_holders := s.smallest_holders + 1;
  elsif s.smallest is null or "limit" < s.smallest then
    s.smallest := "limit";
    s.smallest_holders := 1;
  end if;
end ${body}`,

    // B4, C2: moves the border over all waiters that now fit, and notifies them. The payload is the key's short name, a
    // colon, and tokens. Watchers of the key are notified without tokens.
    //
    // In and out: the semaphore, locked. In: the channel of the process that asks, or null. Out: the tokens of its own
    // waiters, after commas: it hears of them by the answer instead.
    `create function ${s}.advance(inout s ${s}.semaphores, asker text, out granted text) ${internal} as ${body}
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
end ${body}`,

    // B13: notifies all listeners of a revocation. A payload has less than 8000 bytes, so the names are sent in parts:
    // each has the digest of the whole and the number of parts that follow. PostgreSQL delivers the parts in order, but
    // equal ones in one transaction only once.
    //
    // In: the key and the holder.
    `create function ${s}.notify_revoked(p_key text, p_holder text) returns void ${internal} as ${body}
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
end ${body}`,

    // Takes a contender that is gone out of the sums of the semaphore.
    //
    // In and out: the semaphore, locked. In: the row that was deleted.
    `create function ${s}.leave(inout s ${s}.semaphores, gone ${s}.contenders) ${internal} as ${body}
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
end ${body}`,

    // B6: removes what has expired, counts the sums anew, and grants. So a clock that goes back revives nothing.
    //
    // In and out: the semaphore, locked. In: the time.
    `create function ${s}.expire(inout s ${s}.semaphores, t timestamptz) ${internal} as ${body}
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
end ${body}`,

    // B3: finds the position of a waiter, and when it must look.
    //
    // In: the semaphore, the row of the waiter, its ttl in milliseconds, the time, and its position if that is known.
    // Out: how many waiters are ahead, counted up to a thousand, and the milliseconds until the next look.
    `create function ${s}.place(
  s ${s}.semaphores, own ${s}.contenders, ttl bigint, t timestamptz, inout "position" bigint, out retry_after bigint
) ${internal} as ${body}
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
end ${body}`,

    // B10: a commit under way may extend a lease that seems to have expired. So a look waits for it, if some lease may
    // have expired.
    //
    // In: the key. Out: the time of the look.
    `create function ${s}.look(p_key text) returns timestamptz ${internal} as ${body}
declare
  t constant timestamptz := clock_timestamp();
begin
  perform check_isolation();
  if exists (select from semaphores x where x.key = digest(p_key) and x.earliest <= t) then
    perform from semaphores x where x.key = digest(p_key) for share;
    return clock_timestamp();
  end if;
  return t;
end ${body}`
  ]
}
