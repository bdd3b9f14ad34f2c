/** How keys and contenders are named in Redis. */

const plain = /^[\w:./ -]*$/

/**
 * Makes any string safe inside a hash tag, and distinct as UTF-8: braces would end the tag, and all lone surrogates
 * would become the same replacement character.
 */
export const escape = (text: string): string =>
  // Most names have nothing to escape, and each refresh needs them.
  plain.test(text)
    ? text
    : text.replace(/[%{}\p{Control}\p{Surrogate}]/gu, (char) => `%${char.codePointAt(0)!.toString(16)};`)

/** Returns what was escaped. Text of others, which was never escaped, may come back as it is. */
export const unescape = (text: string): string =>
  text.replace(/%((?:10|[0-9a-f])?[0-9a-f]{1,4});/g, (_, hex) => String.fromCodePoint(Number.parseInt(hex, 16)))

/** Returns the Redis key of a semaphore. */
export const keyOf = (keyPrefix: string, key: string): string => `${keyPrefix}{${escape(key)}}`

/** Returns the semaphore of a Redis key, or `undefined` if it belongs to something else. */
export const semaphoreOf = (keyPrefix: string, redisKey: string): string | undefined => {
  const key = unescape(redisKey.slice(keyPrefix.length + 1, -1))
  return redisKey === keyOf(keyPrefix, key) ? key : undefined
}

/** Returns a pattern that matches all Redis keys with a prefix. */
export const patternOf = (keyPrefix: string): string => `${keyPrefix.replace(/[\\*?[\]^-]/g, "\\$&")}{*}`

/**
 * Returns a random name. It is short, because Redis stores entries of up to 64 bytes more compactly. Two equal names do
 * no harm.
 */
export const newListener = (): string => crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36)

/** Returns the key that says since when the server has its data. It is no semaphore's, because it has no braces. */
export const restartOf = (keyPrefix: string): string => `${keyPrefix}restart`

/** No listener has these names, because they are too long. */
const watchers = "watchers"
const revocations = "revocations"

/** Returns the channel where a listener hears of its waiters. It has the hash tag, and so the slot, of the key. */
export const channelOf = (keyPrefix: string, key: string, listener: string): string =>
  `${keyOf(keyPrefix, key)}:${listener}`

/** Returns the channel where watchers of a key hear of all its changes. */
export const watchersOf = (keyPrefix: string, key: string): string => channelOf(keyPrefix, key, watchers)

/** Returns the channel where all processes hear of revocations. All other channels have a key in braces. */
export const revocationsOf = (keyPrefix: string): string => `${keyPrefix}${revocations}`
