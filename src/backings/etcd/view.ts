/** What is known of a semaphore as it was at one revision of the store. */
import type { IEvent, IKeyValue } from "etcd3"
import type { SemaphoreNames, Slot } from "./names.ts"
import { parse } from "./names.ts"

/** Revisions are those of etcd; ttl are whole seconds. */
interface Entry {
  readonly permits: number
  readonly ttl: number
  readonly created: bigint
  readonly modified: bigint
  readonly lease: string
}

export interface Hold extends Entry {
  readonly slot: Slot
}

export interface Place extends Entry {
  readonly limit: number
}

export type Blocker = readonly [identifier: string, entry: Hold | Place]

export interface View {
  /** All that happened until then is seen. */
  revision: bigint
  readonly holds: Map<string, Hold>
  /** First in line first: a Map leaves an entry that is set again where it is, as etcd does its create_revision. */
  readonly line: Map<string, Place>
  /** The names of notes, and of what somebody else has put there. */
  readonly others: Set<string>
  /** Whether the whole line is seen, and not only its end, more than could ever go at once, and the place of who looked. */
  readonly isComplete: boolean
  /** The largest limit that was seen. */
  largestLimit: number
}

const make = (revision: bigint, isComplete: boolean): View => ({
  revision,
  isComplete,
  holds: new Map(),
  line: new Map(),
  others: new Set(),
  largestLimit: 0
})

export const holdValue = (permits: number, ttl: number): Buffer => Buffer.from(`${permits} ${ttl}`)

export const placeValue = (permits: number, ttl: number, limit: number): Buffer =>
  Buffer.from(`${permits} ${ttl} ${limit}`)

const put = (view: View, names: SemaphoreNames, kv: IKeyValue): void => {
  const name = parse(names, kv.key)
  const numbers = kv.value.toString().split(" ").map(Number)
  if (name === undefined || !numbers.every(Number.isSafeInteger) || numbers.length !== (name.slot ? 2 : 3)) {
    view.others.add(kv.key.toString())
    return
  }
  const [permits, ttl, limit] = numbers as [number, number, number]
  const { identifier, slot } = name
  const entry: Entry = {
    permits,
    ttl,
    created: BigInt(kv.create_revision),
    modified: BigInt(kv.mod_revision),
    lease: kv.lease
  }
  if (slot) view.holds.set(identifier, { ...entry, slot })
  else {
    view.line.set(identifier, { ...entry, limit })
    view.largestLimit = Math.max(view.largestLimit, limit)
  }
}

const remove = (view: View, names: SemaphoreNames, key: Buffer): void => {
  if (view.others.delete(key.toString())) return
  const name = parse(names, key)
  if (name === undefined) return
  const { identifier, slot } = name
  if (slot === undefined) view.line.delete(identifier)
  // Who acquires another number has the new hold already.
  else if (view.holds.get(identifier)?.slot === slot) view.holds.delete(identifier)
}

/** What is known before a look. */
export const nothing: View = make(0n, true)

/** Of all that a look gave, in the order of creation. */
export const ofRange = (
  names: SemaphoreNames,
  revision: bigint,
  kvs: ReadonlyArray<IKeyValue>,
  isComplete = true
): View => {
  const view = make(revision, isComplete)
  for (const kv of kvs) put(view, names, kv)
  return view
}

/** Events come in the order of their revisions, and all of a revision in one response. */
export const apply = (view: View, names: SemaphoreNames, { kv, type }: IEvent): void => {
  if (type === "Put") put(view, names, kv)
  else remove(view, names, kv.key)
  view.revision = BigInt(kv.mod_revision)
}

/** How many names the semaphore has in the store. */
export const size = ({ holds, line, others }: View): number => holds.size + line.size + others.size

export const held = ({ holds }: View): number => {
  let sum = 0
  for (const { permits } of holds.values()) sum += permits
  return sum
}

/** Those who stand before a waiter, or all who wait if it has no place. */
export const ahead = ({ line }: View, identifier: string): ReadonlyArray<Place> => {
  const places: Array<Place> = []
  for (const [other, place] of line) {
    if (other === identifier) break
    places.push(place)
  }
  return places
}

/** B2: whether its permits and those of everyone ahead fit into what is free; what it holds itself counts as free. */
export const fits = (view: View, identifier: string, permits: number, limit: number): boolean => {
  if (!view.isComplete) return false
  const own = view.holds.get(identifier)?.permits ?? 0
  const demand = ahead(view, identifier).reduce((sum, place) => sum + place.permits, permits)
  return held(view) - own + demand <= limit
}

/**
 * Some of the holds and places that keep a contender from going, enough to keep it while they last; of the line those who
 * came last before it, because they stay longest.
 */
export const blockers = (view: View, identifier: string, permits: number, limit: number): ReadonlyArray<Blocker> => {
  const blockers: Array<Blocker> = []
  let demand = permits
  const places = Array.from(view.line, ([id, place]): Blocker => [id, place])
  const rank = places.findIndex(([id]) => id === identifier)
  const ahead = rank < 0 ? places : places.slice(0, rank)
  const holds = Array.from(view.holds, ([id, hold]): Blocker => [id, hold]).filter(([id]) => id !== identifier)
  for (const blocker of [...holds, ...ahead].toReversed()) {
    if (demand > limit) break
    demand += blocker[1].permits
    blockers.push(blocker)
  }
  return blockers
}

/** The waiters that can go. */
export const ableToGo = (view: View): ReadonlySet<string> => {
  const { holds, largestLimit, line } = view
  const able = new Set<string>()
  const inUse = held(view)
  let demand = 0
  for (const [identifier, { limit, permits }] of line) {
    demand += permits
    if (demand > largestLimit) break
    if (inUse - (holds.get(identifier)?.permits ?? 0) + demand <= limit) able.add(identifier)
  }
  return able
}
