/**
 * How a semaphore is laid out in etcd:
 *
 * ```
 * <prefix><key>/hold/<identifier>/a   a hold; its create_revision is the fencing token
 * <prefix><key>/hold/<identifier>/b   the same, of who held already and acquired another number
 * <prefix><key>/line/<identifier>     a place; create_revision is the order of the line
 * <prefix><key>/note/<identifier>/…   see requests.ts
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
  readonly all: Range
  readonly holds: Range
  readonly line: Range
  readonly notes: Range
}

export type Slot = "a" | "b"

export interface ContenderNames {
  readonly semaphore: SemaphoreNames
  readonly holds: Range
  readonly hold: Record<Slot, Buffer>
  readonly place: Buffer
  readonly notes: Range
  readonly holdNote: Buffer
  readonly placeNote: Buffer
}

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

export const semaphore = (prefix: string, key: string): SemaphoreNames => {
  const folder = `${prefix}${escape(key)}/`
  return {
    all: under(folder),
    holds: under(`${folder}hold/`),
    line: under(`${folder}line/`),
    notes: under(`${folder}note/`)
  }
}

export const contender = (prefix: string, key: string, identifier: string): ContenderNames => {
  const names = semaphore(prefix, key)
  const own = ({ key }: Range) => `${key}${escape(identifier)}`
  const holds = under(`${own(names.holds)}/`)
  const notes = under(`${own(names.notes)}/`)
  return {
    semaphore: names,
    holds,
    hold: { a: Buffer.from(`${holds.key}a`), b: Buffer.from(`${holds.key}b`) },
    place: Buffer.from(own(names.line)),
    notes,
    holdNote: Buffer.from(`${notes.key}hold`),
    placeNote: Buffer.from(`${notes.key}line`)
  }
}

/** The name of a hold, or of a place. */
export const entry = ({ holds, line }: SemaphoreNames, identifier: string, slot?: Slot): Buffer =>
  Buffer.from(slot ? `${holds.key}${escape(identifier)}/${slot}` : `${line.key}${escape(identifier)}`)

/** What a name within a semaphore stands for: with a slot for a hold, without one for a place, or for neither. */
export const parse = ({ all }: SemaphoreNames, name: Buffer) => {
  const [kind, escaped, part, ...rest] = name.subarray(all.key.length).toString().split("/")
  const identifier = unescape(escaped ?? "")
  if (identifier === undefined || rest.length > 0) return undefined
  if (kind === "hold" && (part === "a" || part === "b")) return { identifier, slot: part as Slot }
  return kind === "line" && part === undefined ? { identifier, slot: undefined } : undefined
}
