/** Calls scripts through the user's client. */
import type { Cluster, Redis } from "ioredis"
import type { Reply } from "./replies.ts"
import type { Call } from "./scripts.ts"

/**
 * Sends a call. Returns a function that abandons it, without taking back what was sent.
 *
 * A server that does not have the script (any more) gets its text, unless the call was abandoned. This is not left to
 * ioredis: its own scripts send the text even when nobody waits any longer, and it could take effect after a later
 * release.
 */
export type Send = <R extends Reply>(
  call: Call<R>,
  succeed: (reply: R) => void,
  fail: (error: unknown) => void
) => () => void

export const make = (redis: Redis | Cluster): Send => {
  const write = fewWritesPerTurn(redis)
  return ({ args, keys, script: { lua, sha } }, succeed, fail) => {
    let abandoned = false
    write()
    redis.evalsha(sha, keys.length, ...keys, ...args).then(succeed as (reply: unknown) => void, (error) => {
      if (abandoned || !(error instanceof Error && error.message.startsWith("NOSCRIPT"))) return fail(error)
      write()
      redis.eval(lua, keys.length, ...keys, ...args).then(succeed as (reply: unknown) => void, fail)
    })
    return () => {
      abandoned = true
    }
  }
}

/**
 * With larger writes, the server waits for this process, and then this process for the server: with 64, each is idle
 * half of the time.
 */
const mostPerWrite = 16

/**
 * Sends the commands of one turn of the event loop to each server in few writes, because a system call costs as much as
 * all else about a command. The client's sockets hold back what it writes until the turn ends, or until there is enough
 * for a write. The client handles each command as usual: it keeps their order, and repeats what a Cluster redirects.
 */
const fewWritesPerTurn = (redis: Redis | Cluster): () => void => {
  let held: Array<Redis["stream"]> | undefined
  let commands = 0
  const write = () => {
    for (const stream of held!) stream.uncork()
    held = undefined
  }
  return () => {
    if (held !== undefined && commands++ < mostPerWrite) return
    if (held === undefined) process.nextTick(write)
    else for (const stream of held) stream.uncork()
    // A client that is not connected has no socket yet.
    held = (redis.isCluster ? (redis as Cluster).nodes() : [redis as Redis])
      .flatMap(({ stream }) => stream ? [stream] : [])
    for (const stream of held) stream.cork()
    commands = 1
  }
}
