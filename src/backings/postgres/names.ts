/** How keys and holders are named in PostgreSQL. */
import { createHash } from "node:crypto"

/**
 * A text that a database of any encoding can hold, and different for different strings: JSON in ASCII. There is no NUL in it
 * and no lone surrogate.
 */
export const encode = (text: string): string =>
  JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

export const decode = (text: string): string => JSON.parse(text)

/** The name in notifications, which are short: half of the digest by which the row is found. */
export const shortName = (text: string): string => createHash("sha256").update(encode(text)).digest("hex").slice(0, 32)
