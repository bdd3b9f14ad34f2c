/** What the scripts have in common. `scripts.ts` says how a semaphore is stored. */

/**
 * Every script starts with this: the time, and a look that finds all that has expired and all numbers, by one command.
 */
export const look = `
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

-- Divides the ranges of scores. All times and tokens stay below it.
local SHIFT = 2 ^ 52

-- Writes a number in full: Lua and Redis would write large ones in scientific notation.
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

/** A script goes on with this, unless its case is the simplest. */
export const prelude = `
-- The semaphore that is open.
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

-- Returns the entry that has a score.
local function at(score)
  return call('ZRANGEBYSCORE', KEY, int(score), int(score))[1]
end

-- Opens a semaphore, given what lookAt found: reads the numbers, or counts the line if they are not valid.
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
 * The scripts that change something go on with this, too.
 *
 * ARGV[1]: the command to notify with, PUBLISH or SPUBLISH. ARGV[2]: the process that asks, as in the entries.
 */
export const mutation = prelude + `
local PUBLISH, PROCESS = ARGV[1], ARGV[2]
-- Whether the numbers must be saved.
local changed
local channels, messages = {}, {}
-- The tokens that are granted to waiters of the process that asks, in a script that replies them.
local granted

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

-- Removes all entries of a contender in one step, and 'held' with them: the numbers are not valid until they are saved.
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

-- Remembers a message for publish.
local function notify(listener, text)
  local channel = KEY .. ':' .. listener
  if not messages[channel] then
    messages[channel] = {}
    table.insert(channels, channel)
  end
  table.insert(messages[channel], text)
end

-- Returns whether nobody is granted anything yet, because the server came back empty.
local function rests()
  return grace and grace > now
end

-- Moves the border over all waiters that now fit (B2), and remembers to notify them, or to reply.
local function grant()
  while waiting > 0 and not rests() and held < smallestLimit(math.huge) do
    local entry = call('ZRANGEBYSCORE', KEY, '(' .. int(SHIFT + border), '+inf', 'LIMIT', 0, 1)[1]
    local waiter = entry and parse(entry)
    if not waiter or held + waiter.permits > smallestLimit(waiter.limit) then return end
    waiting = waiting - 1
    admit(waiter)
    local listener = string.match(waiter.process, '^%w+')
    if granted and waiter.process == PROCESS then table.insert(granted, waiter.name)
    elseif listener then notify(listener, waiter.name) end
  end
end

-- Opens a semaphore, removes what has expired, and grants what that leaves (B6).
local function enter(key, found)
  open(key, found)
  -- For a lone contender the numbers are not worth saving.
  changed = not counted and holders + waiting > 1
  for _, token in ipairs(expired) do remove(parse(at(SHIFT + token))) end
  changed = changed or waiting > 0 and grace and not rests()
  if changed then grant() end
  if not watched then return end
  notify('watchers', '')
  if watched < now then call('ZREM', KEY, 'watched') end
end

-- Writes the numbers, together with the given entries.
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

-- Writes the entry of a contender anew, if its permits, limit or process have changed. If the user may not use ZREM or
-- ZADD, its first use here is refused, and nothing is lost by then.
local function amend(contender)
  local entry = entryOf(contender)
  if entry == contender.entry then return end
  changed = true
  call('ZREM', KEY, 'held')
  call('ZADD', KEY, int(SHIFT + contender.token), entry)
  call('ZREM', KEY, contender.entry)
  contender.entry = entry
end

-- Makes the key expire with its last contender. One of them expires at the given time, which may not be stored yet.
local function keepKey(expiry)
  if holders + waiting > 1 then
    expiry = math.max(expiry, -call('ZRANGEBYSCORE', KEY, '(' .. int(-SHIFT), '(0', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  end
  call('PEXPIREAT', KEY, int(math.ceil(expiry / 1000)))
end

local function expiryIn(ttl)
  return math.min(now + ttl, SHIFT - 1)
end

-- Returns the entry with the highest score below the given one, but not below the least, and its score.
local function nearest(score, least)
  return call('ZREVRANGEBYSCORE', KEY, '(' .. int(score), int(least), 'WITHSCORES', 'LIMIT', 0, 1)
end

-- Returns the reply about a contender (B3): 'acquired', token, limit, permits, or 'waiting', token, limit, position, µs to
-- wait.
local function answer(contender, ttl)
  local smallest = int(smallestLimit(contender.limit))
  if holds(contender) then return { 'acquired', contender.name, smallest, int(contender.permits) } end
  local place = SHIFT + contender.token
  local position = call('ZCOUNT', KEY, '(' .. int(SHIFT + border), '(' .. int(place))
  local wait = position == 0 and math.min(ttl / 3, 1000000) or ttl / 3
  local expiry
  if position + contender.permits <= contender.limit then
    -- Near the head of the line, any expiry may free the way.
    expiry = nearest(0, -SHIFT)[2]
  else
    -- Farther back, it is enough to look if the waiter directly ahead is gone: otherwise that one looks, and any look
    -- grants to all.
    local ahead = nearest(place, SHIFT)[1]
    expiry = ahead and call('ZSCORE', KEY, 'x:' .. string.match(ahead, '^%d+'))
  end
  if expiry then wait = math.min(wait, -expiry - now) end
  -- The end of the grace notifies nobody, so all waiters look then.
  if rests() then wait = math.min(wait, grace - now) end
  return { 'waiting', contender.name, smallest, int(position), int(math.max(1000, wait)) }
end

local function publish()
  for _, channel in ipairs(channels) do redis.pcall(PUBLISH, channel, table.concat(messages[channel], ' ')) end
end
`
