/**
 * How a semaphore is laid out in etcd: one key for each contender, whether it holds or waits.
 *
 * ```
 * <prefix><key>/<identifier>/a   its create_revision is its place in the line and its fencing token
 * <prefix><key>/<identifier>/b   the same, if it held or waited already and asked for another number of permits
 * ```
 *
 * Keys and identifiers are escaped so that they have no slash: no two different pairs have a name in common.
 */

/** A range of names: those that begin with a text which ends in a slash. */
export interface Range {
  readonly key: Buffer
  readonly range_end: Buffer
}

export interface SemaphoreNames {
  readonly folder: string
  readonly all: Range
}

export type Slot = "a" | "b"

/** JSON's escapes also keep lone surrogates apart, which UTF-8 does not. */
const escape = (text: string): string => JSON.stringify(text).slice(1, -1).replaceAll("/", "\\u002f")

const unescape = (text: string): string | undefined => {
  try {
    return JSON.parse(`"${text}"`)
  } catch {
    return undefined
  }
}

const under = (folder: string): Range => ({
  key: Buffer.from(folder),
  // The character that follows the slash.
  range_end: Buffer.from(`${folder.slice(0, -1)}0`)
})

export const ofFolder = (folder: string): SemaphoreNames => ({ folder, all: under(folder) })

export const semaphore = (prefix: string, key: string): SemaphoreNames => ofFolder(`${prefix}${escape(key)}/`)

/** What the names of a contender begin with. */
export const contender = ({ folder }: SemaphoreNames, identifier: string): string => `${folder}${escape(identifier)}/`

export const slotOf = (contender: string, slot: Slot): Buffer => Buffer.from(contender + slot)

export const otherSlot = (slot: Slot): Slot => slot === "a" ? "b" : "a"

/** What a name within a semaphore stands for, unless somebody else has put it there. */
export const parse = (
  { all }: SemaphoreNames,
  name: Buffer
): { readonly identifier: string; readonly slot: Slot } | undefined => {
  const [escaped, slot, ...rest] = name.subarray(all.key.length).toString().split("/")
  const identifier = unescape(escaped ?? "")
  if (!identifier || rest.length > 0 || (slot !== "a" && slot !== "b")) return undefined
  return { identifier, slot }
}
