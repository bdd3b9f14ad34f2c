/**
 * The Lua scripts: one operation of the contract each, atomic on the server.
 *
 * A semaphore is one key, a sorted set. Its entries are found by name, or by score. Scores are whole numbers, and each
 * kind of entry has a range of its own:
 *
 * | name                                    | score               |                                                             |
 * | --------------------------------------- | ------------------- | ----------------------------------------------------------- |
 * | `i:<identifier>`                        | -2^52 - token       | finds a contender by its identifier                         |
 * | `x:<token>`                             | -expiry             | the contender that expires last comes first                 |
 * | `held`, `waiting`                       | 0 … 2^52            | permits of all holds, and how many wait                     |
 * | `<limit>`                               | 0 … 2^52            | how many holders asked with that limit                      |
 * | `border`, `last`                        | 0 … 2^52            | highest token that holds or held; last token issued         |
 * | `watched`                               | 0 … 2^52            | until when somebody watches all changes                     |
 * | `grace`                                 | 0 … 2^52            | until when nobody is granted anything, after a restart      |
 * | `<token>:<permits>:<limit>:<process>`   | 2^52 + token        | the line: holders first, then waiters                       |
 *
 * `border` without `held` means that the numbers are not valid: a script that needs them counts the line. So a holder
 * that finds nobody, and stays alone, writes no numbers: its acquire is one ZADD, its release one ZREM.
 *
 * A contender holds if its token is not above the border. The process, "<listener>:<owner>", is the one that asked
 * last. Its channel is "<key>:<listener>"; a message there lists the tokens that one step granted. A process without a
 * listener polls. What a release grants to its own process is in the reply, not in a message.
 *
 * Times are microseconds of the server's clock. They and the tokens stay below 2^52 until the year 2112, so all scores
 * are exact. The key expires with its last contender; until then it keeps `last`. All answers are strings, so that
 * client options on reply types change nothing. Each begins with the server's time.
 *
 * What can come between, and what then happens:
 *
 * - *Another script* never comes between: only the order of requests matters.
 * - *A request comes late, or twice.* A release or refresh with a token finds another token, or nobody. A tryAcquire
 *   that is repeated finds its own hold or place; one that was given up says until when it may take effect (B12).
 * - *A reply is lost*: the request is repeated, as above. What a release granted to its own process was in it, so
 *   the waiters there look once the client has reconnected.
 * - *A message is lost, or refused*: the waiter's next refresh says that it holds. Notifying comes last, and may fail.
 * - *The server refuses the script's first write*, because it is a replica, or can't persist, or another type of value
 *   is in the way: nothing has changed. It refuses no later write for these reasons.
 * - *The server stops a script halfway*, because its user may not use a command (Redis checks this when the script
 *   calls it). A contender enters by one ZADD, which also writes the numbers. It leaves by one ZREM, which also removes
 *   `held`. If nobody is left, that is all. Otherwise `border` is there without `held`: each script counts the line,
 *   and grants, until one has saved all numbers. Without PEXPIREAT, a request fails before anything has changed, except
 *   that a new contender has entered: to the caller, that is like a lost reply.
 * - *The server is full* (`maxmemory` with `noeviction`). It refuses commands that may need memory, but only as the
 *   first write of a script. For a contender that exists already, the first write is PEXPIREAT or ZREM, which need
 *   none: so it can be refreshed, extended, granted and released. For a new one it is ZADD, which is refused before
 *   anything has changed.
 * - *The key is removed* by somebody else: all holds and places are gone, as their next refresh says.
 * - *The server comes back empty*: with a grace, nobody is granted a key that the server does not know until the old
 *   holds are over. The first request notices it, because the time since which the server has its data is gone, too.
 */
import { createHash } from "node:crypto"
import { look, mutation, prelude } from "./lua.ts"
import type { ContenderReply, InspectReply, Reply } from "./replies.ts"

/** A call of a script that replies an `R`. */
export interface Call<R extends Reply> {
  readonly script: { readonly lua: string; readonly sha: string }
  readonly keys: ReadonlyArray<string>
  readonly args: ReadonlyArray<string | number>
  /** Only a type. */
  readonly reply?: R
}

/** A script, and how a request becomes a call of it. */
export interface Script<Request, R extends Reply> {
  readonly lua: string
  readonly sha: string
  readonly call: (request: Request) => Call<R>
}

const script = <Request, R extends Reply>(
  call: (request: Request) => Pick<Call<R>, "keys" | "args">,
  lua: string
): Script<Request, R> => {
  const text = { lua, sha: createHash("sha1").update(lua).digest("hex") }
  return { ...text, call: (request) => ({ script: text, ...call(request) }) }
}

/** Of the scripts that change something: the first two arguments. */
interface Asker {
  /** The command to notify with. */
  readonly publish: "PUBLISH" | "SPUBLISH"
  /** The process that asks, as in the entries. */
  readonly process: string
}

interface OfKey {
  readonly key: string
}

/**
 * B1, B2, B3, B12. The limit in the reply is the smallest that the contender or a holder asked with; it is absent if nobody
 * held or waited. `late` is the reply to a request that came too late.
 */
export const tryAcquire = script<
  Asker & OfKey & {
    /** With a grace: where it stands since when the server has its data. */
    readonly restartKey?: string | undefined
    /** The latest time at which the request may take effect, or empty. With 0 it only asks for the time. */
    readonly latest: number | ""
    readonly identifier: string
    readonly ttlMicros: number
    readonly limit: number
    readonly permits: number
    readonly queue: boolean
    readonly graceMicros: number
  },
  readonly [time: string, ContenderReply]
>(
  ({ graceMicros, identifier, key, latest, limit, permits, process, publish, queue, restartKey, ttlMicros }) => ({
    keys: restartKey === undefined ? [key] : [key, restartKey],
    args: [publish, process, latest, identifier, ttlMicros, limit, permits, queue ? 1 : 0, graceMicros]
  }),
  look + `
local latest, id, ttl, limit, permits = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local queue = ARGV[8] == '1'
if latest and now > latest then return { int(now), { 'late' } } end
local found = lookAt(KEYS[1])

-- The server may have come back empty: old holders of a key that it does not know may still be at work.
if KEYS[2] and #found == 0 then
  local since = tonumber(call('GET', KEYS[2]))
  if not since then
    call('SET', KEYS[2], int(now))
    since = now
  end
  if since + ARGV[9] > now then found = { 'grace', since + ARGV[9] } end
end

-- Nobody holds or waits.
if (#found == 0 or #found == 2 and found[1] == 'last') and permits <= limit then
  local token = math.max((found[2] or 0) + 1, now)
  local name, expiry = int(token), math.min(now + ttl, SHIFT - 1)
  local entry = name .. ':' .. ARGV[7] .. ':' .. ARGV[6] .. ':' .. ARGV[2]
  call('ZADD', KEYS[1], name, 'border', name, 'last', int(-SHIFT - token), 'i:' .. id, int(-expiry), 'x:' .. name,
    int(SHIFT + token), entry)
  call('PEXPIREAT', KEYS[1], int(math.ceil(expiry / 1000)))
  return { int(now), { 'acquired', name } }
end
` + mutation + `

-- Returns whether the request fits behind everybody else, without what its contender has now.
local function fits(own)
  if rests() then return false end
  if not own then return waiting == 0 and held + permits <= smallestLimit(limit) end
  local sum, smallest = permits, limit
  for _, entry in ipairs(everybody()) do
    local other = parse(entry)
    if other.token ~= own.token then
      sum, smallest = sum + other.permits, math.min(smallest, other.limit)
      if sum > smallest then return false end
    end
  end
  return sum <= smallest
end

local function ask()
  local own = find(id)
  local expiry = expiryIn(ttl)
  if own and own.permits == permits then
    if not queue and not holds(own) then return nil end
    keepKey(expiry)
    call('ZADD', KEY, int(-expiry), 'x:' .. own.name)
    local smaller = math.min(own.limit, limit)
    if holds(own) then
      countHolder(own.limit, -1)
      countHolder(smaller, 1)
    end
    own.limit, own.process = smaller, PROCESS
    amend(own)
    return own
  end

  if not queue and not fits(own) then return nil end
  if own then
    remove(own)
    grant()
  end
  last = math.max(last + 1, now)
  own = { name = int(last), token = last, permits = permits, limit = limit, process = PROCESS }
  if fits() then admit(own) else waiting = waiting + 1 end
  save(int(-SHIFT - last), 'i:' .. id, int(-expiry), 'x:' .. own.name, int(SHIFT + last), entryOf(own))
  keepKey(expiry)
  return own
end

enter(KEYS[1], found)
local own = ask()
if changed then save() end
local reply = own and answer(own, ttl) or { 'refused' }
publish()
return { int(now), reply }
`
)

/**
 * B4. Replies how many permits were freed, and which tokens of the asking process were granted: so a hand-off within a
 * process takes no message.
 */
export const release = script<
  Asker & OfKey & {
    readonly identifier: string
    readonly permits: number
    /** Of the acquisition, or empty. */
    readonly token: string
  },
  readonly [time: string, freed: string, granted: string]
>(
  ({ identifier, key, permits, process, publish, token }) => ({
    keys: [key],
    args: [publish, process, identifier, permits, token]
  }),
  look + `
local id, permits, token = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local found = lookAt(KEYS[1])

-- A holder found nobody, and nobody else has asked since.
if #found == 4 and found[1] == 'border' then
  local entries = call('ZRANGEBYSCORE', KEYS[1], int(SHIFT), '+inf', 'LIMIT', 0, 2)
  local name, held = string.match(entries[1] or '', '^(%d+):(%d+):')
  local own = name == found[2] and #entries == 1 and (token == '' or token == name) and tonumber(held) <= permits
  if own and call('ZSCORE', KEYS[1], 'i:' .. id) then
    call('ZREM', KEYS[1], 'border', entries[1], 'i:' .. id, 'x:' .. name)
    return { int(now), held, '' }
  end
end
` + mutation + `
local freed = 0
granted = {}
enter(KEYS[1], found)
local own = find(id)
if own and (token == '' or token == own.name) then
  if holds(own) then freed = math.min(own.permits, permits) end
  if freed > 0 and freed < own.permits then
    own.permits = own.permits - freed
    held = held - freed
    amend(own)
  else
    remove(own)
  end
  grant()
end
if changed then save() end
publish()
return { int(now), int(freed), table.concat(granted, ' ') }
`
)

/** B5: refreshes the holds and places of several semaphores. Replies to each request, in order, as `tryAcquire`, or `none`. */
export const refreshAll = script<
  Asker & {
    readonly keys: ReadonlyArray<string>
    /** For each key: how many requests, and of each the identifier, the ttl in µs, and the token of the acquisition or nothing. */
    readonly requests: ReadonlyArray<string | number>
  },
  readonly [time: string, ...ReadonlyArray<ContenderReply>]
>(
  ({ keys, process, publish, requests }) => ({ keys, args: [publish, process, ...requests] }),
  look + mutation + `
local replies = { int(now) }
local next = 3

local function refresh()
  local requests, latest = {}, 0
  for i = 1, tonumber(ARGV[next]) do
    local id, ttl, token = ARGV[next + 3 * i - 2], tonumber(ARGV[next + 3 * i - 1]), ARGV[next + 3 * i]
    local own = find(id)
    if own and token ~= '' and token ~= own.name then own = nil end
    if own then latest = math.max(latest, expiryIn(ttl)) end
    requests[i] = { ttl = ttl, own = own }
  end
  next = next + 1 + 3 * #requests

  if latest > 0 then keepKey(latest) end
  for _, request in ipairs(requests) do
    local own = request.own
    if own then
      call('ZADD', KEY, int(-expiryIn(request.ttl)), 'x:' .. own.name)
      own.process = PROCESS
      amend(own)
    end
  end
  if changed then save() end
  for _, request in ipairs(requests) do
    table.insert(replies, request.own and answer(request.own, request.ttl) or { 'none' })
  end
end

for _, key in ipairs(KEYS) do
  enter(key, lookAt(key))
  refresh()
end
publish()
return replies
`
)

/** B10. */
export const getCount = script<OfKey, readonly [time: string, held: string]>(
  ({ key }) => ({ keys: [key], args: [] }),
  look + prelude + `
open(KEYS[1], lookAt(KEYS[1]))
for _, token in ipairs(expired) do
  local contender = parse(at(SHIFT + token))
  if holds(contender) then held = held - contender.permits end
end
return { int(now), int(held) }
`
)

/** B10. Lists the first holders and the first waiters, at most `most` of each, in the order of the line. */
export const inspect = script<OfKey & { readonly most: number }, InspectReply>(
  ({ key, most }) => ({ keys: [key], args: [most] }),
  look + prelude + `
open(KEYS[1], lookAt(KEYS[1]))
local most, gone = tonumber(ARGV[1]), {}
for _, token in ipairs(expired) do
  gone[token] = true
  if token <= border then holders = holders - 1 else waiting = waiting - 1 end
end

local function list(from, to)
  local listed = {}
  for _, entry in ipairs(call('ZRANGEBYSCORE', KEY, from, to, 'LIMIT', 0, most + #expired)) do
    local contender = parse(entry)
    if not gone[contender.token] and #listed < most then
      local id = string.sub(at(-SHIFT - contender.token), 3)
      local left = -call('ZSCORE', KEY, 'x:' .. contender.name) - now
      table.insert(listed, { id, int(contender.permits), contender.name, int(left), contender.process })
    end
  end
  return listed
end

local line = int(SHIFT + border)
return { int(now), int(holders), int(waiting), list(int(SHIFT), line), list('(' .. line, '+inf') }
`
)

/** Has all changes of a semaphore published in the channel "<key>:watchers" for a while. Creates no key. */
export const watch = script<OfKey & { readonly micros: number }, Reply>(
  ({ key, micros }) => ({ keys: [key], args: [micros] }),
  look + `
if #lookAt(KEYS[1]) > 0 then call('ZADD', KEYS[1], int(now + ARGV[1]), 'watched') end
return { int(now) }
`
)

/** B13. The channel is passed as a key, by whose slot a Cluster's client finds the node. */
export const publish = script<Pick<Asker, "publish"> & { readonly channel: string; readonly message: string }, Reply>(
  ({ channel, message, publish }) => ({ keys: [channel], args: [publish, message] }),
  look + `
call(ARGV[1], KEYS[1], ARGV[2])
return { int(now) }
`
)
