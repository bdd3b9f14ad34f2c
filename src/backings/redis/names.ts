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

/** Where a listener hears of its waiters: below the Redis key, and so in the same slot of a Cluster. */
export const channelOf = (keyPrefix: string, key: string, listener: string): string =>
  `${keyOf(keyPrefix, key)}:${listener}`
