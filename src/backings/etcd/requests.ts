/**
 * The requests to etcd. Each is one txn. Each that changes a contender compares what it relies on, so it takes effect
 * once, however often it is sent. A put that comes late ends with its lease (leases.ts).
 *
 * - A contender that is not in the line joins it by a put. That needs no prior read: the revision of the put is its
 *   place.
 * - A contender that must not wait joins only if no key of the semaphore was put since the view in which it fits. A key
 *   that was deleted since then only makes room.
 * - A contender leaves by a delete that compares the revision of its last write. That revision implies its
 *   `create_revision`.
 * - A contender that asks for another number leaves and joins in one txn, under its other name.
 */
import type { ICompare, IRequestOp, ITxnRequest } from "etcd3"
import type { Range, SemaphoreNames, Slot } from "./names.ts"
import { contender as contenderName, otherSlot, slotOf, under } from "./names.ts"
import type { Subject } from "./txns.ts"
import type { Contender, Value, View } from "./view.ts"
import { encode } from "./view.ts"

/** What this process knows of a contender. `holds` is true only if it is known to hold. */
export type Entry = Omit<Contender, "identifier" | "seat">

/** Returns what a txn is about if it may share a call. One with long names may not: the size of a call is limited. */
export const sharing = ({ folder }: SemaphoreNames, contender = folder): Subject | undefined =>
  contender.length < 1000 ? { folder, contender } : undefined

/** How many keys of a semaphore a request reads where there is no watch. If there are more, a watch costs less. */
export const mostRead = 17

/** Compares that a key does not exist, or that a range is empty. */
const isAbsent = (key: Buffer | Range): ICompare => ({
  target: "Create",
  result: "Equal",
  ...Buffer.isBuffer(key) ? { key } : key,
  create_revision: "0"
})

const isUnmodified = (key: Buffer, { modified }: Pick<Entry, "modified">): ICompare => ({
  target: "Mod",
  result: "Equal",
  key,
  mod_revision: `${modified}`
})

const areUnmodified = (names: SemaphoreNames, all: ReadonlyArray<Contender>): ReadonlyArray<ICompare> =>
  all.map((one) => isUnmodified(slotOf(contenderName(names, one.identifier), one.slot), one))

/** Compares that no key in a range was put after a revision. It is true of an empty range, too. */
const nothingNewIn = (range: Range, revision: bigint): ICompare => ({
  target: "Mod",
  result: "Less",
  ...range,
  mod_revision: `${revision + 1n}`
})

const remove = (key: Buffer): IRequestOp => ({ request_delete_range: { key } })

export const range = (range: Range | Pick<Range, "key">, more: object = {}): IRequestOp => ({
  request_range: { ...range, ...more }
})

export const some = ({ all }: SemaphoreNames): IRequestOp => range(all, { limit: String(mostRead) })

/**
 * Reads which keys were put since a view, and how many keys there are. The view is the present state if no key was put
 * and there are as many keys as in the view.
 */
export const since = ({ all }: SemaphoreNames, { revision }: View): IRequestOp =>
  range(all, { min_mod_revision: `${revision + 1n}`, keys_only: true })

/**
 * Joins the line, if the contender has there only what is `known`: nothing, or what it then gives up (B1, B2). If
 * `fits` is given, no key may have been put since that revision.
 *
 * If `reads` is set, the answer ends with the first keys of the semaphore.
 */
export const join = (
  names: SemaphoreNames,
  contender: string,
  known: Entry | undefined,
  value: Value,
  fits: bigint | undefined,
  reads: boolean
) =>
(lease: string): ITxnRequest => {
  const slot: Slot = known ? otherSlot(known.slot) : "a"
  const [key, other] = [slotOf(contender, slot), slotOf(contender, otherSlot(slot))]
  const compare = known ? [isAbsent(key), isUnmodified(other, known)] : [isAbsent(under(contender))]
  const success: Array<IRequestOp> = known ? [remove(other)] : []
  if (fits !== undefined) compare.push(nothingNewIn(names.all, fits))
  success.push({ request_put: { key, value: encode(value), lease } })
  if (reads) success.push(some(names))
  return { compare, success }
}

/** Gives up a place or a hold (B4). */
export const leave = (contender: string, known: Entry): ITxnRequest => {
  const name = slotOf(contender, known.slot)
  return { compare: [isUnmodified(name, known)], success: [remove(name)] }
}

/**
 * Gives up what was a place when it was seen last, if those of `stay` are unchanged. The answer shows the line up to
 * it, from which follows whether it had become a hold. It shows no more than `limit` contenders, because no more can
 * hold.
 */
export const leavePlace = (
  names: SemaphoreNames,
  contender: string,
  known: Entry,
  stay: ReadonlyArray<Contender>
): ITxnRequest => {
  const { compare, success } = leave(contender, known)
  const ahead = { max_create_revision: `${known.token}`, sort_target: "Create", limit: String(known.limit) }
  return { compare: [...compare!, ...areUnmodified(names, stay)], success: [range(names.all, ahead), ...success!] }
}

/**
 * Writes another value and keeps the lease. With `fresh`: only if no key is newer than `view`, and `stay` is unchanged.
 */
export const rewrite = (
  contender: string,
  known: Entry,
  value: Value,
  fresh?: { readonly names: SemaphoreNames; readonly view: View; readonly stay: ReadonlyArray<Contender> }
): ITxnRequest => {
  const key = slotOf(contender, known.slot)
  return {
    compare: [
      isUnmodified(key, known),
      ...fresh ? [...areUnmodified(fresh.names, fresh.stay), nothingNewIn(fresh.names.all, fresh.view.revision)] : []
    ],
    success: [{ request_put: { key, value: encode(value), ignore_lease: true } }]
  }
}

/** Moves contenders to a lease of this ttl, and to this owner, each only if it is unchanged. They keep their tokens. */
export const move = (
  { owner, ttl }: Pick<Value, "owner" | "ttl">,
  moves: ReadonlyArray<{ readonly contender: string; readonly known: Entry }>
) =>
(lease: string): ITxnRequest => ({
  success: moves.map(({ contender, known }) => {
    const key = slotOf(contender, known.slot)
    return {
      request_txn: {
        compare: [isUnmodified(key, known)],
        success: [{ request_put: { key, value: encode({ ...known, owner, ttl }), lease } }]
      }
    }
  })
})

/** Puts a key that watches see, and that vanishes with its lease. */
export const notice = (key: Buffer, lease: string): ITxnRequest => ({ success: [{ request_put: { key, lease } }] })
