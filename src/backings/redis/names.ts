/** How keys and contenders are named in Redis. */

const plain = /^[\w:./ -]*$/

/**
 * Makes any string safe inside a hash tag, and distinct as UTF-8: braces would end the tag, a lone surrogate would become
 * the same replacement character as any other.
 */
export const escape = (text: string): string =>
  // Most names have nothing to escape, and each refresh needs them.
  plain.test(text)
    ? text
    : text.replace(/[%{}\p{Control}\p{Surrogate}]/gu, (char) => `%${char.codePointAt(0)!.toString(16)};`)

export const unescape = (text: string): string =>
  text.replace(/%([0-9a-f]+);/g, (_, hex) => String.fromCodePoint(Number.parseInt(hex, 16)))

/** The Redis key of a semaphore. */
export const keyOf = (keyPrefix: string, key: string): string => `${keyPrefix}{${escape(key)}}`

/** The key of a Redis key; `undefined` if that is of something else. */
export const semaphoreOf = (keyPrefix: string, redisKey: string): string | undefined => {
  const key = unescape(redisKey.slice(keyPrefix.length + 1, -1))
  return redisKey === keyOf(keyPrefix, key) ? key : undefined
}

/** Matches all Redis keys of a prefix. */
export const patternOf = (keyPrefix: string): string => `${keyPrefix.replace(/[\\*?[\]^-]/g, "\\$&")}{*}`

/** Short, because Redis keeps entries of up to 64 bytes more compactly. Two that are the same hear what does not concern them. */
export const newListener = (): string => crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36)

/** Where a server says since when it has its data. It is no semaphore's key. */
export const restartOf = (keyPrefix: string): string => `${keyPrefix}restart`

/** What a listener can't be called. */
const watchers = "watchers"
const revocations = "revocations"

/** Where a listener hears of its waiters: below the Redis key, and so in the same slot of a Cluster. */
export const channelOf = (keyPrefix: string, key: string, listener: string): string =>
  `${keyOf(keyPrefix, key)}:${listener}`

/** Where those who watch a key hear of all that happens to it. */
export const watchersOf = (keyPrefix: string, key: string): string => channelOf(keyPrefix, key, watchers)

/** Where all processes hear of what was revoked. It is no key's channel: those end with a listener. */
export const revocationsOf = (keyPrefix: string): string => `${keyPrefix}${revocations}`
