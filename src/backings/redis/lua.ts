/** What the scripts have in common; `scripts.ts` says how a semaphore is kept. */

/** What every script starts with. */
export const prelude = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua and Redis would write large numbers in scientific notation, which commands that want an integer refuse.
local function int(number)
  return string.format('%.0f', number)
end

-- The semaphore at hand. While counted is false, its sums are not valid.
local LINE, EXPIRIES, STATE
local border, last, held, waiting, holders, limits, counted

local function find(id)
  local record = redis.call('HGET', STATE, 'c:' .. id)
  if not record then return nil end
  local token, permits, limit, listener = string.match(record, '^(%d+) (%d+) (%d+) (.*)$')
  return { token = tonumber(token), permits = tonumber(permits), limit = tonumber(limit), listener = listener }
end

local function holds(contender)
  return contender.token <= border
end

local function countLimit(limit, change)
  local count = (limits[limit] or 0) + change
  limits[limit] = count > 0 and count or nil
  holders = holders + change
end

local function everybody(key)
  return redis.call('ZRANGE', key, 0, -1)
end

local function expired()
  return redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', int(now))
end

-- Turns to the semaphore of three keys.
local function open(first)
  LINE, EXPIRIES, STATE = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  local sums = redis.call('HMGET', STATE, 'border', 'last', 'held', 'waiting', 'limits')
  counted = sums[3] and true
  for i = 1, 4 do sums[i] = tonumber(sums[i] or 0) end
  border, last, held, waiting = sums[1], sums[2], sums[3], sums[4]
  holders, limits = 0, {}
  if counted then
    for limit, count in string.gmatch(sums[5] or '', '(%d+):(%d+)') do countLimit(tonumber(limit), tonumber(count)) end
    return
  end
  held, waiting = 0, 0
  for _, id in ipairs(everybody(LINE)) do
    local contender = find(id)
    if contender and holds(contender) then
      held = held + contender.permits
      countLimit(contender.limit, 1)
    elseif contender then
      waiting = waiting + 1
    end
  end
end
`

/**
 * What the scripts that change something have in common.
 *
 * ARGV[1]: the command to notify with, PUBLISH or SPUBLISH. ARGV[2]: the listener of the process that asks, or empty.
 */
export const mutation = prelude + `
local PUBLISH, LISTENER = ARGV[1], ARGV[2]
local changed = false
local channels, messages = {}, {}

local function smallestLimit()
  local smallest = math.huge
  for limit in pairs(limits) do smallest = math.min(smallest, limit) end
  return smallest
end

-- Must precede every other change of sums.
local function invalidate(...)
  redis.call('HDEL', STATE, 'held', ...)
  changed = true
end

local function remove(id, contender)
  invalidate('c:' .. id)
  redis.call('ZREM', LINE, id)
  redis.call('ZREM', EXPIRIES, id)
  if not contender then return end
  if holds(contender) then
    held = held - contender.permits
    countLimit(contender.limit, -1)
  else
    waiting = waiting - 1
  end
end

local function admit(contender)
  border = contender.token
  held = held + contender.permits
  countLimit(contender.limit, 1)
end

-- Moves the border, and remembers whom to notify.
local function grant()
  while waiting > 0 and held < smallestLimit() do
    local id = redis.call('ZRANGEBYSCORE', LINE, '(' .. int(border), '+inf', 'LIMIT', 0, 1)[1]
    local waiter = id and find(id)
    if waiter then
      if held + waiter.permits > math.min(smallestLimit(), waiter.limit) then return end
      waiting = waiting - 1
      admit(waiter)
      if waiter.listener ~= '' then
        local channel = LINE .. ':' .. waiter.listener
        if not messages[channel] then
          messages[channel] = {}
          table.insert(channels, channel)
        end
        table.insert(messages[channel], int(waiter.token))
      end
    elseif id then
      remove(id)
    else
      waiting = 0
    end
  end
end

-- Turns to a semaphore. B6: from here on, what has expired is gone, and what it leaves is granted.
local function enter(first)
  open(first)
  changed = false
  local cleared = false
  if not counted then
    for _, key in ipairs({ EXPIRIES, LINE }) do
      for _, id in ipairs(everybody(key)) do
        if not find(id) then remove(id) end
        cleared = true
      end
    end
    if cleared then invalidate() end
  end
  if holders + waiting > 0 then
    for _, id in ipairs(expired()) do
      remove(id, find(id))
      cleared = true
    end
  end
  if cleared then grant() end
end

-- Writes the sums, and more fields. Never the first write.
local function save(...)
  local counts = {}
  for limit, count in pairs(limits) do table.insert(counts, int(limit) .. ':' .. int(count)) end
  redis.call('HSET', STATE, 'border', int(border), 'last', int(last), 'held', int(held), 'waiting', int(waiting),
    'limits', table.concat(counts, ' '), ...)
end

local function record(id, contender)
  return 'c:' .. id, int(contender.token) .. ' ' .. int(contender.permits) .. ' ' .. int(contender.limit) .. ' ' ..
    contender.listener
end

-- When the last contender expires, if one does at the given time.
local function lastExpiry(expiry)
  return math.max(expiry, tonumber(redis.call('ZRANGE', EXPIRIES, -1, -1, 'WITHSCORES')[2] or 0))
end

local function keepKeys(expiry)
  for _, key in ipairs({ STATE, LINE, EXPIRIES }) do redis.call('PEXPIREAT', key, int(math.ceil(expiry / 1000))) end
end

-- The reply about a contender: 'acquired', token; or 'waiting', token, position, retryAfter (µs).
local function answer(id, contender, ttl)
  if holds(contender) then return { 'acquired', int(contender.token) } end
  local rank = redis.call('ZRANK', LINE, id) or holders
  local position = math.max(0, rank - holders)
  local wait = position == 0 and math.min(ttl / 3, 1000000) or ttl / 3
  local expiry
  if position + contender.permits <= contender.limit then
    -- Near the head, any expiry may free the way.
    expiry = redis.call('ZRANGE', EXPIRIES, 0, 0, 'WITHSCORES')[2]
  else
    -- Whoever stands directly ahead looks too, and any look grants to all, unless it is gone.
    expiry = redis.call('ZSCORE', EXPIRIES, redis.call('ZRANGE', LINE, rank - 1, rank - 1)[1] or '')
  end
  if expiry then wait = math.min(wait, expiry - now) end
  return { 'waiting', int(contender.token), int(position), int(math.max(1000, wait)) }
end

local function publish()
  for _, channel in ipairs(channels) do redis.pcall(PUBLISH, channel, table.concat(messages[channel], ' ')) end
end
`
