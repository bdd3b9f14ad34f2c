/** How keys and holders are named in PostgreSQL. */
import { createHash } from "node:crypto"

/**
 * Encodes a string as JSON in ASCII, which a database of any encoding can hold: it has no NUL and no lone surrogate.
 * Different strings stay different.
 */
export const encode = (text: string): string =>
  JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

export const decode = (text: string): string => JSON.parse(text)

/** Returns the name in notifications, which must be short: half of the digest by which the row is found. */
export const shortName = (text: string): string => createHash("sha256").update(encode(text)).digest("hex").slice(0, 32)
