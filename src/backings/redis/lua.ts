/** What the scripts have in common; `scripts.ts` says how a semaphore is kept. */

/** What every script starts with: the time, and one look that finds what has expired, and all numbers. */
export const look = `
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

-- Where the ranges of scores begin and end, and the latest expiry.
local SHIFT = 2 ^ 52

-- A number in full: Lua and Redis would write large ones in scientific notation.
local texts = {}
local function int(number)
  local text = texts[number] or string.format('%.0f', number)
  texts[number] = text
  return text
end

local function lookAt(key)
  return call('ZRANGEBYSCORE', key, '-' .. int(now), '(' .. int(SHIFT), 'WITHSCORES')
end
`

/** What a script goes on with unless its case is the simplest. */
export const prelude = `
-- The semaphore at hand.
local KEY, expired, border, last, held, waiting, holders, limits, counted, watched, grace

local function parse(entry)
  local name, permits, limit, process = string.match(entry, '^(%d+):(%d+):(%d+):(.*)$')
  return {
    entry = entry, name = name, token = tonumber(name), permits = tonumber(permits), limit = tonumber(limit), process = process
  }
end

local function holds(contender)
  return contender.token <= border
end

local function countHolder(limit, change)
  limits[limit] = (limits[limit] or 0) + change
  holders = holders + change
end

local function everybody()
  return call('ZRANGEBYSCORE', KEY, int(SHIFT), '+inf')
end

-- What has a score.
local function at(score)
  return call('ZRANGEBYSCORE', KEY, int(score), int(score))[1]
end

-- Turns to a semaphore.
local function open(key, found)
  local numbers = {}
  KEY, expired, holders, limits = key, {}, 0, {}
  for i = 1, #found, 2 do
    local name, number = found[i], tonumber(found[i + 1])
    local limit = tonumber(name)
    if number < 0 then table.insert(expired, tonumber(string.sub(name, 3)))
    elseif limit then countHolder(limit, number)
    else numbers[name] = number end
  end
  border, last, held, waiting = numbers.border or 0, numbers.last or 0, numbers.held or 0, numbers.waiting or 0
  counted, watched, grace = numbers.held or not numbers.border, numbers.watched, numbers.grace
  if counted then return end
  held, waiting, holders = 0, 0, 0
  for limit in pairs(limits) do limits[limit] = 0 end
  for _, entry in ipairs(everybody()) do
    local contender = parse(entry)
    if holds(contender) then
      held = held + contender.permits
      countHolder(contender.limit, 1)
    else
      waiting = waiting + 1
    end
  end
end
`

/**
 * What the scripts that change something have in common.
 *
 * ARGV[1]: the command to notify with, PUBLISH or SPUBLISH. ARGV[2]: the process that asks, as in the entries.
 */
export const mutation = prelude + `
local PUBLISH, PROCESS = ARGV[1], ARGV[2]
-- Whether the numbers must be saved.
local changed
local channels, messages = {}, {}

local function find(id)
  local score = holders + waiting > 0 and call('ZSCORE', KEY, 'i:' .. id)
  local entry = score and at(-score)
  local contender = entry and parse(entry)
  if contender then contender.id = 'i:' .. id end
  return contender
end

local function smallestLimit(limit)
  for other, count in pairs(limits) do
    if count > 0 then limit = math.min(limit, other) end
  end
  return limit
end

-- B6: all that a contender has, in one step. Without 'held' the numbers are not valid until they are saved.
local function remove(contender)
  if holds(contender) then
    held = held - contender.permits
    countHolder(contender.limit, -1)
  else
    waiting = waiting - 1
  end
  local names = { 'held', contender.entry, contender.id or at(-SHIFT - contender.token), 'x:' .. contender.name }
  changed = holders + waiting > 0
  if not changed then
    names[5], names[6] = 'border', 'waiting'
    for limit in pairs(limits) do table.insert(names, int(limit)) end
    border, limits = 0, {}
  end
  call('ZREM', KEY, unpack(names))
end

local function admit(contender)
  border = contender.token
  held = held + contender.permits
  countHolder(contender.limit, 1)
end

-- Remembers whom to notify.
local function notify(listener, text)
  local channel = KEY .. ':' .. listener
  if not messages[channel] then
    messages[channel] = {}
    table.insert(channels, channel)
  end
  table.insert(messages[channel], text)
end

-- Whether nobody is granted anything, because the server came back empty.
local function rests()
  return grace and grace > now
end

-- B2: moves the border.
local function grant()
  while waiting > 0 and not rests() and held < smallestLimit(math.huge) do
    local entry = call('ZRANGEBYSCORE', KEY, '(' .. int(SHIFT + border), '+inf', 'LIMIT', 0, 1)[1]
    local waiter = entry and parse(entry)
    if not waiter or held + waiter.permits > smallestLimit(waiter.limit) then return end
    waiting = waiting - 1
    admit(waiter)
    local listener = string.match(waiter.process, '^%w+')
    if listener then notify(listener, waiter.name) end
  end
end

-- Turns to a semaphore. B6: from here on, what has expired is gone, and what it leaves is granted.
local function enter(key, found)
  open(key, found)
  -- The numbers of one who found nobody are not worth to be saved.
  changed = not counted and holders + waiting > 1
  for _, token in ipairs(expired) do remove(parse(at(SHIFT + token))) end
  changed = changed or waiting > 0 and grace and not rests()
  if changed then grant() end
  if not watched then return end
  notify('watchers', '')
  if watched < now then call('ZREM', KEY, 'watched') end
end

-- Writes the numbers, and more.
local function save(...)
  local entries = { int(border), 'border', int(last), 'last', int(held), 'held', int(waiting), 'waiting', ... }
  for limit, count in pairs(limits) do
    if count > 0 then
      table.insert(entries, int(count))
      table.insert(entries, int(limit))
    else
      call('ZREM', KEY, int(limit))
    end
  end
  if rests() then
    table.insert(entries, int(grace))
    table.insert(entries, 'grace')
  end
  call('ZADD', KEY, unpack(entries))
  if grace and not rests() then call('ZREM', KEY, 'grace') end
  changed = false
end

local function entryOf(contender)
  return contender.name .. ':' .. int(contender.permits) .. ':' .. int(contender.limit) .. ':' .. contender.process
end

-- Changes the entry of a contender, which another process may have taken over. Nothing is lost if the first ZREM or the first ZADD is refused; then none is.
local function amend(contender)
  local entry = entryOf(contender)
  if entry == contender.entry then return end
  changed = true
  call('ZREM', KEY, 'held')
  call('ZADD', KEY, int(SHIFT + contender.token), entry)
  call('ZREM', KEY, contender.entry)
  contender.entry = entry
end

-- Keeps the key until the last contender expires, if one does at the given time.
local function keepKey(expiry)
  if holders + waiting > 1 then
    expiry = math.max(expiry, -call('ZRANGEBYSCORE', KEY, '(' .. int(-SHIFT), '(0', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  end
  call('PEXPIREAT', KEY, int(math.ceil(expiry / 1000)))
end

local function expiryIn(ttl)
  return math.min(now + ttl, SHIFT - 1)
end

-- Of the contenders with lower or higher scores, the nearest.
local function nearest(score, least)
  return call('ZREVRANGEBYSCORE', KEY, '(' .. int(score), int(least), 'WITHSCORES', 'LIMIT', 0, 1)
end

-- B3. The reply about a contender: 'acquired', token, limit; or 'waiting', token, limit, position, retryAfter (µs).
local function answer(contender, ttl)
  local smallest = int(smallestLimit(contender.limit))
  if holds(contender) then return { 'acquired', contender.name, smallest } end
  local place = SHIFT + contender.token
  local position = call('ZCOUNT', KEY, '(' .. int(SHIFT + border), '(' .. int(place))
  local wait = position == 0 and math.min(ttl / 3, 1000000) or ttl / 3
  local expiry
  if position + contender.permits <= contender.limit then
    -- Near the head, any expiry may free the way.
    expiry = nearest(0, -SHIFT)[2]
  else
    -- Whoever stands directly ahead looks too, and any look grants to all, unless it is gone.
    local ahead = nearest(place, SHIFT)[1]
    expiry = ahead and call('ZSCORE', KEY, 'x:' .. string.match(ahead, '^%d+'))
  end
  if expiry then wait = math.min(wait, -expiry - now) end
  -- Nobody releases when the grace is over: so everybody looks.
  if rests() then wait = math.min(wait, grace - now) end
  return { 'waiting', contender.name, smallest, int(position), int(math.max(1000, wait)) }
end

local function publish()
  for _, channel in ipairs(channels) do redis.pcall(PUBLISH, channel, table.concat(messages[channel], ' ')) end
end
`
