/**
 * How a semaphore is laid out in etcd: one key for each contender, whether it holds or waits.
 *
 * ```
 * <prefix><key>/<identifier>/a   its create_revision is its place in the line and its fencing token
 * <prefix><key>/<identifier>/b   the same, if it held or waited already and asked for another number of permits
 * <prefix>/<key>/<identifier>    is put, and removed, when its hold or place is revoked
 * ```
 *
 * Keys and identifiers are escaped so that they have no slash: no two different pairs have a name in common.
 */

import type { Revocation } from "../../core/Backing.ts"

/** A range of names: those that begin with a text. */
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

/** As most names are. */
const plain = /^[\w.:-]+$/

/** JSON's escapes also keep lone surrogates apart, which UTF-8 does not. */
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

/** The names that begin with a text, which are all if it is empty. */
export const under = (start: string): Range => {
  const range_end = Buffer.from(start || "\0")
  // No text ends in the last byte that there is.
  if (start) range_end[range_end.length - 1]!++
  return { key: Buffer.from(start || "\0"), range_end }
}

export const semaphore = (prefix: string, key: string): SemaphoreNames => new SemaphoreNames(`${prefix}${escape(key)}/`)

/** What the names of a contender begin with. */
export const contender = ({ folder }: SemaphoreNames, identifier: string): string => `${folder}${escape(identifier)}/`

export const slotOf = (contender: string, slot: Slot): Buffer => Buffer.from(contender + slot)

export const otherSlot = (slot: Slot): Slot => slot === "a" ? "b" : "a"

/** The first name that can follow. */
export const after = (name: Buffer): Buffer => Buffer.concat([name, Buffer.of(0)])

/** No key is empty: so this is no semaphore's. */
export const revocations = (prefix: string): Range => under(`${prefix}/`)

export const revocation = (prefix: string, { holderId, key }: Revocation): Buffer =>
  Buffer.from(`${prefix}/${escape(key)}/${escape(holderId)}`)

export const parseRevocation = (prefix: string, name: Buffer): Revocation | undefined => {
  const [key, holderId] = name.toString().slice(prefix.length + 1).split("/").map(unescape)
  return key && holderId ? { key, holderId } : undefined
}

/** The semaphore that a name is within, and its key. */
export const semaphoreOf = (
  prefix: string,
  name: Buffer
): { readonly key: string; readonly names: SemaphoreNames } | undefined => {
  const [escaped] = name.toString().slice(prefix.length).split("/")
  const key = unescape(escaped!)
  return key ? { key, names: semaphore(prefix, key) } : undefined
}

/** What a name within a semaphore stands for, unless somebody else has put it there. */
export const parse = (
  { folder }: SemaphoreNames,
  name: Buffer
): { readonly identifier: string; readonly slot: Slot } | undefined => {
  const [escaped, slot, ...rest] = name.toString().slice(folder.length).split("/")
  const identifier = unescape(escaped ?? "")
  if (!identifier || rest.length > 0 || (slot !== "a" && slot !== "b")) return undefined
  return { identifier, slot }
}
