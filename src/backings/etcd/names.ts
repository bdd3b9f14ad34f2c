/**
 * How a semaphore is laid out in etcd: one key for each contender, whether it holds or waits.
 *
 * ```
 * <prefix><key>/<identifier>/a   its create_revision is its place in the line and its fencing token
 * <prefix><key>/<identifier>/b   the same, when the contender asked again for another number of permits
 * <prefix>/<key>/<identifier>    is put when the hold or place is revoked, and soon deleted again
 * ```
 *
 * Keys and identifiers are escaped so that they have no slash: no two different pairs share a name.
 */

import type { Revocation } from "../../core/Backing.ts"

/** The range of all names that begin with some text. */
export interface Range {
  readonly key: Buffer
  readonly range_end: Buffer
}

export class SemaphoreNames {
  readonly folder: string

  constructor(folder: string) {
    this.folder = folder
  }

  get all(): Range {
    return under(this.folder)
  }
}

export type Slot = "a" | "b"

/** A text that needs no escape, as most don't. */
const plain = /^[\w.:-]+$/

/** JSON's escapes also keep lone surrogates apart. UTF-8 alone would make them all the same. */
const escape = (text: string): string =>
  plain.test(text) ? text : JSON.stringify(text).slice(1, -1).replaceAll("/", "\\u002f")

const unescape = (text: string): string | undefined => {
  if (plain.test(text)) return text
  try {
    return JSON.parse(`"${text}"`)
  } catch {
    return undefined
  }
}

/** Returns the range of the names that begin with `start`: all names, if it is empty. */
export const under = (start: string): Range => {
  const range_end = Buffer.from(start || "\0")
  // The last byte can grow, because no UTF-8 text ends in 0xff.
  if (start) range_end[range_end.length - 1]!++
  return { key: Buffer.from(start || "\0"), range_end }
}

export const semaphore = (prefix: string, key: string): SemaphoreNames => new SemaphoreNames(`${prefix}${escape(key)}/`)

/** Returns the text that a contender's names begin with. */
export const contender = ({ folder }: SemaphoreNames, identifier: string): string => `${folder}${escape(identifier)}/`

export const slotOf = (contender: string, slot: Slot): Buffer => Buffer.from(contender + slot)

export const otherSlot = (slot: Slot): Slot => slot === "a" ? "b" : "a"

/** Returns the first name that can come after this one. */
export const after = (name: Buffer): Buffer => Buffer.concat([name, Buffer.of(0)])

/** Returns the range of all revocations. It overlaps no semaphore's, because no key is empty. */
export const revocations = (prefix: string): Range => under(`${prefix}/`)

export const revocation = (prefix: string, { holderId, key }: Revocation): Buffer =>
  Buffer.from(`${prefix}/${escape(key)}/${escape(holderId)}`)

export const parseRevocation = (prefix: string, name: Buffer): Revocation | undefined => {
  const [key, holderId] = name.toString().slice(prefix.length + 1).split("/").map(unescape)
  return key && holderId ? { key, holderId } : undefined
}

/** Returns the semaphore that a name belongs to, and its key; nothing for a revocation or an unknown name. */
export const semaphoreOf = (
  prefix: string,
  name: Buffer
): { readonly key: string; readonly names: SemaphoreNames } | undefined => {
  const [escaped] = name.toString().slice(prefix.length).split("/")
  const key = unescape(escaped!)
  return key ? { key, names: semaphore(prefix, key) } : undefined
}

/** Returns what a name within a semaphore stands for, or nothing if it is not one of ours. */
export const parse = (
  { folder }: SemaphoreNames,
  name: Buffer
): { readonly identifier: string; readonly slot: Slot } | undefined => {
  const [escaped, slot, ...rest] = name.toString().slice(folder.length).split("/")
  const identifier = unescape(escaped ?? "")
  if (!identifier || rest.length > 0 || (slot !== "a" && slot !== "b")) return undefined
  return { identifier, slot }
}
