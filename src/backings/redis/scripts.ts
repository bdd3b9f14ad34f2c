/**
 * The Lua scripts: one operation of the contract each, atomic on the server.
 *
 * A semaphore is three keys, all under the hash tag of its name:
 *
 * - line:     sorted set, identifier → token: holders first, then waiters
 * - expiries: sorted set, identifier → expiry
 * - state:    hash
 *     c:<identifier>   a contender: "<token> <permits> <limit> <listener>", the listener empty if the waiter polls
 *     border           the highest token that holds, or held: a contender is a holder if its token is not above it
 *     last             the last token that was issued
 *     held             permits of all holds
 *     waiting          number of waiters
 *     limits           the limits that the holders asked with, and how many each: "<limit>:<holders> …"
 *
 * A listener is the process in which a waiter waits. Its channel is "<line>:<listener>", a message the tokens that one step
 * granted there. Times are microseconds of the server's clock. They and the tokens stay below 2^53, where Lua's numbers are
 * exact. All three keys expire together, when the last contender does. All answers are strings, so that client options on reply
 * types change nothing; each begins with the server's time.
 *
 * What can come between, and what then happens:
 *
 * - *Another script*: never. What two requests can do to each other is a matter of their order.
 * - *A request comes late, or twice.* A release or refresh with a token finds another number, or nobody. A tryAcquire that is
 *   repeated finds its own hold or place; one that was given up says until when it may take effect (B12).
 * - *A reply is lost*: the request is repeated, as above.
 * - *A message is lost, or refused*: the waiter's next refresh says that it holds. Notifying comes last, and may fail.
 * - *The server stops a script halfway*, because its user may not use a command (Redis checks when the script calls it). A
 *   contender exists if it has a record. What enters gets its record last, together with all sums, in one command; what was
 *   there before it without a record is nobody, and is removed when it is met or expires. What leaves loses its record first, and
 *   with it, in one command, `held`: while that is absent no sum is valid, and the next script removes those without a record,
 *   counts anew and grants.
 * - *The server is full* (`maxmemory` with `noeviction`). It refuses commands that may need memory, but only as the first write of
 *   a script. So the first write is PEXPIREAT or HDEL, which need none, wherever the contender exists already: it is refreshed,
 *   extended, granted and released. For a new one it is ZADD, which is refused before anything has changed.
 * - *The keys are removed* by somebody else, all or the state: all holds and places are gone, as their next refresh says.
 */
import type { Cluster, Redis } from "ioredis"
import { createHash } from "node:crypto"
import { mutation, prelude } from "./lua.ts"

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
  signal?: AbortSignal
): Promise<unknown> => {
  try {
    return await redis.evalsha(sha, keys.length, ...keys, ...args)
  } catch (error) {
    if (signal?.aborted || !(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error
    return redis.eval(lua, keys.length, ...keys, ...args)
  }
}

const script = (lua: string): Script => ({ lua, sha: createHash("sha1").update(lua).digest("hex") })

/**
 * B1, B2, B3, B12.
 *
 * KEYS: line, expiries, state. ARGV[3]: the latest time at which it may take effect, or empty; with 0 it only tells the time.
 * ARGV[4]: identifier. ARGV[5]: ttl in µs. ARGV[6]: limit. ARGV[7]: permits. ARGV[8]: 1 to queue.
 *
 * Answers the time, and `acquired, token`, or `waiting, token, position, retryAfter` (µs), or `refused`, or `late`.
 */
export const tryAcquire = script(
  mutation + `
local latest, id, ttl, limit, permits = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local queue = ARGV[8] == '1'
if latest and now > latest then return { int(now), { 'late' } } end

-- Whether a request fits behind everybody but its own earlier one.
local function fits(own)
  if not own then return waiting == 0 and held + permits <= math.min(smallestLimit(), limit) end
  local sum, smallest = permits, limit
  for _, other in ipairs(everybody(LINE)) do
    local contender = other ~= id and find(other)
    if contender then
      sum, smallest = sum + contender.permits, math.min(smallest, contender.limit)
      if sum > smallest then return false end
    end
  end
  return sum <= smallest
end

local function ask()
  local own = find(id)
  local expiry = now + ttl
  if own and own.permits == permits then
    if not queue and not holds(own) then return nil end
    keepKeys(lastExpiry(expiry))
    redis.call('ZADD', EXPIRIES, int(expiry), id)
    local smaller = math.min(own.limit, limit)
    if holds(own) and smaller < own.limit then
      countLimit(own.limit, -1)
      countLimit(smaller, 1)
    end
    -- A place may be taken over by another process.
    if smaller < own.limit or not holds(own) and own.listener ~= LISTENER then
      own.limit, own.listener = smaller, LISTENER
      save(record(id, own))
      changed = false
    end
    return own
  end

  if not queue and not fits(own) then return nil end
  if own then
    remove(id, own)
    grant()
  end
  last = math.max(last + 1, now)
  own = { token = last, permits = permits, limit = limit, listener = LISTENER }
  local lasts = lastExpiry(expiry)
  redis.call('ZADD', EXPIRIES, int(expiry), id)
  redis.call('ZADD', LINE, int(last), id)
  if fits() then admit(own) else waiting = waiting + 1 end
  save(record(id, own))
  changed = false
  keepKeys(lasts)
  return own
end

enter(1)
local own = ask()
if changed then save() end
local reply = own and answer(id, own, ttl) or { 'refused' }
publish()
return { int(now), reply }
`
)

/**
 * B4.
 *
 * KEYS: line, expiries, state. ARGV[3]: identifier. ARGV[4]: permits. ARGV[5]: the token of the acquisition, or empty.
 *
 * Answers the time, and how many permits were freed.
 */
export const release = script(
  mutation + `
local id, permits, token = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local freed = 0
enter(1)
local own = find(id)
if own and (token == '' or token == int(own.token)) then
  if holds(own) then freed = math.min(own.permits, permits) end
  if freed > 0 and freed < own.permits then
    invalidate()
    own.permits = own.permits - freed
    held = held - freed
    grant()
    save(record(id, own))
    changed = false
  else
    remove(id, own)
    grant()
  end
end
if changed then save() end
publish()
return { int(now), int(freed) }
`
)

/**
 * B5: refreshes the holds and places of several semaphores.
 *
 * KEYS: line, expiries, state of each semaphore. ARGV from 3 on, for each semaphore: how many requests, and for each of these:
 * identifier, ttl in µs, token of the acquisition or empty.
 *
 * Answers the time, and for each request, in order: `acquired, token`, or `waiting, token, position, retryAfter` (µs), or `none`.
 */
export const refreshAll = script(
  mutation + `
local replies = { int(now) }
local at = 3

local function refresh()
  local requests, expiry = {}, 0
  for i = 1, tonumber(ARGV[at]) do
    local id, ttl, token = ARGV[at + 3 * i - 2], tonumber(ARGV[at + 3 * i - 1]), ARGV[at + 3 * i]
    local own = find(id)
    if own and token ~= '' and token ~= int(own.token) then own = nil end
    if own then expiry = math.max(expiry, now + ttl) end
    requests[i] = { id = id, ttl = ttl, own = own }
  end
  at = at + 1 + 3 * #requests

  if expiry > 0 then keepKeys(lastExpiry(expiry)) end
  for _, request in ipairs(requests) do
    local id, own = request.id, request.own
    if own then
      redis.call('ZADD', EXPIRIES, int(now + request.ttl), id)
      -- A place may be taken over by another process.
      if not holds(own) and own.listener ~= LISTENER then
        own.listener = LISTENER
        redis.call('HSET', STATE, record(id, own))
      end
    end
  end
  if changed then save() end
  for _, request in ipairs(requests) do
    table.insert(replies, request.own and answer(request.id, request.own, request.ttl) or { 'none' })
  end
end

for first = 1, #KEYS, 3 do
  enter(first)
  refresh()
end
publish()
return replies
`
)

/**
 * B10. KEYS: line, expiries, state. Answers the time, and the permits held.
 */
export const getCount = script(
  prelude + `
open(1)
for _, id in ipairs(expired()) do
  local contender = find(id)
  if contender and holds(contender) then held = held - contender.permits end
end
return { int(now), int(held) }
`
)

/**
 * B10. KEYS: line, expiries, state.
 *
 * Answers the time, and two lists in the order of the line, holders and waiters: `identifier, permits, token, µs left` of each.
 */
export const inspect = script(
  prelude + `
open(1)
local holding, line = {}, {}
for _, id in ipairs(everybody(LINE)) do
  local contender = find(id)
  local left = (redis.call('ZSCORE', EXPIRIES, id) or 0) - now
  if contender and left > 0 then
    table.insert(holds(contender) and holding or line, { id, int(contender.permits), int(contender.token), int(left) })
  end
end
return { int(now), holding, line }
`
)
