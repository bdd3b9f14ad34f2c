/**
 * The Lua scripts: one operation of the contract each, atomic on the server.
 *
 * A semaphore is four keys, all under the hash tag of its name:
 *
 * - KEYS[1] holders: sorted set, holder id → expiry of its hold
 * - KEYS[2] line:    sorted set, waiter id → ticket: the order of arrival
 * - KEYS[3] places:  sorted set, waiter id → expiry of its place
 * - KEYS[4] state:   hash
 *     held, waiting   permits of all holds, and of all places; while `held` is absent, no sum is valid
 *     ticket, token   the last ones issued
 *     told            the ticket up to which everybody in line has been told to go
 *     toldPermits     what those who are still in line want
 *     minLimit, maxLimit   the least and the largest limit among those in line
 *     until           when everything here has expired
 *     h:<id>          a hold: "<permits> <token>"
 *     w:<id>          a place: "<permits> <limit> <listener>", the listener empty if the waiter polls
 *
 * A listener is the process in which a waiter waits; its channel is "<KEYS[2]>:<listener>", a message the id of the waiter.
 *
 * Times are microseconds of the server's clock. They and the tokens stay below 2^53, where Lua's numbers are exact. All four
 * keys expire together, when the last hold or place does: if one went earlier, the sums in the hash would be wrong.
 *
 * Redis can stop a script halfway: it checks each command against the ACL of the user when the script calls it. So a script
 * removes `held` before its first change and writes all sums after its last one. The next script that finds no `held` adds the
 * sums up again. A hold without a record has no permits. Notifying comes last, and may fail.
 *
 * A full server (`maxmemory` with `noeviction`) refuses commands that may need memory, but only as the first write of a script.
 * The first write is therefore HDEL, which needs none: a full server lets a hold or place that exists be refreshed, extended and
 * released. Only for a new one the script calls ZADD first, and is refused before it has changed anything.
 *
 * All answers are strings, so that client options on reply types change nothing.
 */
import type { Cluster, Redis } from "ioredis"
import { createHash } from "node:crypto"

export interface Script {
  readonly lua: string
  readonly sha: string
}

/**
 * Runs a script by its hash, or, if the server does not have it (any more), by its text. Not with ioredis's own scripts: they
 * do the second even when nobody waits any longer, and it could land after a later release.
 */
export const run = async (
  redis: Redis | Cluster,
  { lua, sha }: Script,
  keys: ReadonlyArray<string>,
  args: ReadonlyArray<string | number>,
  signal: AbortSignal
): Promise<unknown> => {
  try {
    return await redis.evalsha(sha, keys.length, ...keys, ...args)
  } catch (error) {
    if (signal.aborted || !(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error
    return redis.eval(lua, keys.length, ...keys, ...args)
  }
}

const script = (lua: string): Script => ({ lua, sha: createHash("sha1").update(lua).digest("hex") })

/** What every script starts with. */
const prelude = `
local HOLDERS, LINE, PLACES, STATE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua and Redis would write large numbers in scientific notation, which commands that want an integer refuse.
local function int(number)
  return string.format('%.0f', number)
end

local function hold(id)
  local permits, token = string.match(redis.call('HGET', STATE, 'h:' .. id) or '', '^(%d+) (%d+)$')
  return tonumber(permits or 0), tonumber(token)
end

local function place(id)
  local permits, limit, listener = string.match(redis.call('HGET', STATE, 'w:' .. id) or '', '^(%d+) (%d+) (.*)$')
  return tonumber(permits or 0), tonumber(limit), listener
end

local function all(key)
  return redis.call('ZRANGE', key, 0, -1)
end

-- The permits of some holds, or of some places.
local function total(ids, permitsOf)
  local permits = 0
  for _, id in ipairs(ids) do permits = permits + permitsOf(id) end
  return permits
end

local function expired(key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', int(now))
end
`

/**
 * What the scripts that change something have in common.
 *
 * ARGV[1]: the command to notify with, PUBLISH or SPUBLISH. ARGV[2]: the id of the holder that asks.
 */
const mutation = prelude + `
local PUBLISH, ID = ARGV[1], ARGV[2]

local held, waiting, ticket, token, lasts, told, toldPermits, minLimit, maxLimit
do
  local fields = redis.call('HMGET', STATE, 'held', 'waiting', 'ticket', 'token', 'until', 'told', 'toldPermits',
    'minLimit', 'maxLimit')
  local counted = fields[1]
  for i = 1, 9 do fields[i] = tonumber(fields[i] or 0) end
  held, waiting, ticket, token, lasts, told, toldPermits, minLimit, maxLimit = unpack(fields)
  if not counted then
    held, waiting, told, toldPermits = total(all(HOLDERS), hold), total(all(LINE), place), 0, 0
    for _, id in ipairs(all(LINE)) do
      local _, limit = place(id)
      minLimit, maxLimit = math.min(minLimit, limit), math.max(maxLimit, limit)
    end
  end
end

local changing = false
-- Must be called before every change.
local function change()
  if not changing then redis.call('HDEL', STATE, 'held') end
  changing = true
end

-- Fails on a full server, unless the script has written something. It changes nothing: no holder has an empty id.
local function checkMemory()
  redis.call('ZADD', HOLDERS, 'XX', 0, '')
end

local function endHold(id)
  change()
  held = held - hold(id)
  redis.call('ZREM', HOLDERS, id)
  redis.call('HDEL', STATE, 'h:' .. id)
end

local function leaveLine(id)
  local number = redis.call('ZSCORE', LINE, id)
  if not number then return end
  change()
  local permits = place(id)
  waiting = waiting - permits
  if tonumber(number) <= told then toldPermits = toldPermits - permits end
  redis.call('ZREM', LINE, id)
  redis.call('ZREM', PLACES, id)
  redis.call('HDEL', STATE, 'w:' .. id)
end

-- B6: from here on, what has expired is gone.
local before = held + waiting
for _, id in ipairs(expired(HOLDERS)) do endHold(id) end
if waiting > 0 then
  for _, id in ipairs(expired(PLACES)) do leaveLine(id) end
end
local live = held + waiting
local lapsed = live < before

-- Calls visit(id, ticket) for each waiter behind a ticket, in order, until that answers true.
local function eachBehind(number, visit)
  local first = 0
  while true do
    local found = redis.call('ZRANGEBYSCORE', LINE, '(' .. int(number), '+inf', 'WITHSCORES', 'LIMIT', first, 32)
    for i = 1, #found, 2 do
      if visit(found[i], tonumber(found[i + 1])) then return end
    end
    if #found < 64 then return end
    first = first + 32
  end
end

-- The permits of those ahead of a waiter; less exact if they are clearly within the room, or above it.
local function permitsAhead(id, number, room)
  local sum, from = toldPermits, told
  if number <= told then
    -- All who have been told usually fit together, so that there is no need to count who of them is ahead.
    local others = toldPermits - place(id)
    if others <= room then return others end
    sum, from = 0, 0
  end
  if sum > room then return sum end
  eachBehind(from, function(other)
    if other == id then return true end
    sum = sum + place(other)
    return sum > room
  end)
  return sum
end

-- C2: returns the messages, as channel and waiter, for those who can go now and have not been told.
local function wake()
  local sum, upTo, added, everybody, messages = held + toldPermits, told, 0, true, {}
  eachBehind(told, function(id, number)
    local permits, limit, listener = place(id)
    sum = sum + permits
    if sum - hold(id) <= limit then
      if listener ~= '' then table.insert(messages, { LINE .. ':' .. listener, id }) end
      if everybody then upTo, added = number, added + permits end
    else
      -- Behind one with a smaller limit others may fit. They are told each time.
      everybody = false
    end
    return sum > maxLimit
  end)
  told, toldPermits = upTo, toldPermits + added
  return messages
end

-- Writes the sums back, keeps the keys at least until the given expiry, and notifies those who can go if anything was freed.
local function finish(expiry)
  if not changing then return end
  local freed = lapsed or held + waiting < live
  local messages = freed and waiting > 0 and wake() or {}

  lasts = math.max(lasts, expiry or 0)
  redis.call('HSET', STATE, 'held', int(held), 'waiting', int(waiting), 'ticket', int(ticket), 'token', int(token),
    'until', int(lasts), 'told', int(told), 'toldPermits', int(toldPermits), 'minLimit', int(minLimit),
    'maxLimit', int(maxLimit))
  if expiry then
    for _, key in ipairs(waiting > 0 and KEYS or { HOLDERS, STATE }) do
      redis.call('PEXPIREAT', key, int(math.ceil(lasts / 1000)))
    end
  end
  for _, message in ipairs(messages) do redis.pcall(PUBLISH, message[1], message[2]) end
end
`

/**
 * B1, B2, B3.
 *
 * ARGV[3]: ttl in µs. ARGV[4]: limit. ARGV[5]: permits. ARGV[6]: 1 to queue. ARGV[7]: listener, or empty.
 *
 * Answers `acquired, token`, or `waiting, position, retryAfter` (µs; empty without a listener), or `refused`.
 */
export const tryAcquire = script(
  mutation + `
local ttl, limit, permits, queue, listener = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7]
local own, ownToken = hold(ID)
-- The ticket of the asker, if it is in line.
local number = waiting > 0 and tonumber(redis.call('ZSCORE', LINE, ID) or nil)

if own ~= permits then
  local room = limit - held + own - permits
  local ahead = number and permitsAhead(ID, number, room) or waiting
  if ahead > room then
    if queue ~= '1' then
      finish()
      return { 'refused' }
    end
    if not number then checkMemory() end
    change()
    if number then
      waiting = waiting - place(ID)
      -- Who was told and can't go after all, or wants another number now, is to be told again, like those behind it.
      if number <= told then told, toldPermits = 0, 0 end
    end
    minLimit = waiting == 0 and limit or math.min(minLimit, limit)
    maxLimit = waiting == 0 and limit or math.max(maxLimit, limit)
    waiting = waiting + permits
    redis.call('HSET', STATE, 'w:' .. ID, int(permits) .. ' ' .. int(limit) .. ' ' .. listener)
    if not number then
      ticket = ticket + 1
      redis.call('ZADD', LINE, int(ticket), ID)
    end
    redis.call('ZADD', PLACES, int(now + ttl), ID)
    finish(now + ttl)

    local position = redis.call('ZRANK', LINE, ID)
    if listener == '' then return { 'waiting', int(position), '' } end
    local wait = position == 0 and math.min(ttl / 3, 1000000) or ttl / 3
    local function lookAt(expiry)
      if expiry then wait = math.min(wait, expiry - now) end
    end
    if position > 0 then
      -- Whoever stands directly ahead looks too, and then wakes this one, unless it is gone.
      lookAt(redis.call('ZSCORE', PLACES, redis.call('ZRANGE', LINE, position - 1, position - 1)[1]))
    end
    if position + permits <= limit then
      -- Near the head, any expiry of a hold or of a place ahead may free the way.
      lookAt(redis.call('ZRANGE', HOLDERS, 0, 0, 'WITHSCORES')[2])
      local first = redis.call('ZRANGE', PLACES, 0, 0, 'WITHSCORES')
      if redis.call('ZRANK', LINE, first[1]) < position then lookAt(first[2]) end
    end
    return { 'waiting', int(position), int(math.max(1000, wait)) }
  end
  if own == 0 and not number then checkMemory() end
  held = held - own + permits
  token = math.max(token + 1, now)
  ownToken = token
end

-- Usually a place becomes a hold of the same permits, by the limit of everybody, and nothing changes for the others. If not,
-- some who were told may not be able to go any more, and are to be told again.
local asUsual = number and place(ID) == permits and own == 0 and limit == minLimit and limit == maxLimit
if waiting > 0 and not asUsual then told, toldPermits = 0, 0 end
change()
if number then leaveLine(ID) end
redis.call('ZADD', HOLDERS, int(now + ttl), ID)
redis.call('HSET', STATE, 'h:' .. ID, int(permits) .. ' ' .. int(ownToken))
finish(now + ttl)
return { 'acquired', int(ownToken) }
`
)

/**
 * B4.
 *
 * ARGV[3]: permits. Answers how many were freed.
 */
export const release = script(
  mutation + `
local own, token = hold(ID)
local freed = math.min(own, tonumber(ARGV[3]))
if own > freed then
  change()
  held = held - freed
  redis.call('HSET', STATE, 'h:' .. ID, int(own - freed) .. ' ' .. int(token))
elseif own > 0 then
  endHold(ID)
end
if waiting > 0 then leaveLine(ID) end
finish()
return int(freed)
`
)

/**
 * B5.
 *
 * ARGV[3]: ttl in µs. Answers the token, or nothing if there is no hold.
 */
export const refresh = script(
  mutation + `
local own, token = hold(ID)
if own == 0 then
  finish()
  return ''
end
change()
local expiry = now + tonumber(ARGV[3])
redis.call('ZADD', HOLDERS, int(expiry), ID)
finish(expiry)
return int(token)
`
)

/**
 * B10. Answers the permits held.
 */
export const getCount = script(
  prelude + `
local held = tonumber(redis.call('HGET', STATE, 'held') or total(all(HOLDERS), hold))
return int(held - total(expired(HOLDERS), hold))
`
)

/**
 * B10. Answers two lists: `id, permits, token, µs left` of each hold, and `id, permits, µs left` of each place.
 */
export const inspect = script(
  prelude + `
local holders, line = {}, {}
local holds = redis.call('ZRANGEBYSCORE', HOLDERS, '(' .. int(now), '+inf', 'WITHSCORES')
for i = 1, #holds, 2 do
  local permits, token = hold(holds[i])
  if token then table.insert(holders, { holds[i], int(permits), int(token), int(holds[i + 1] - now) }) end
end
for _, id in ipairs(redis.call('ZRANGE', LINE, 0, -1)) do
  local left = redis.call('ZSCORE', PLACES, id) - now
  if left > 0 then table.insert(line, { id, int((place(id))), int(left) }) end
end
return { holders, line }
`
)
