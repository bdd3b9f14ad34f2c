/** How keys and holders are named in PostgreSQL. */
import { createHash } from "node:crypto"

/** A text that PostgreSQL can hold: no NUL, no lone surrogates, and different for different strings. */
export const encode = (text: string): string => JSON.stringify(text)

export const decode = (text: string): string => JSON.parse(text)

/** The name in notifications, which are short: half of the digest by which the row is found. */
export const shortName = (text: string): string => createHash("sha256").update(encode(text)).digest("hex").slice(0, 32)
