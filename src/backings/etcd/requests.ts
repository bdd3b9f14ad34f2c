/**
 * The requests of the protocol. Each is one txn, and each that writes names what it relies on: so it has its effect once, and none
 * when it comes late.
 *
 * - A contender joins the line by a put, if it is not in it. Nobody is asked before: the revision of the put is its place.
 * - One that must not wait joins only if nothing was put into the semaphore since the view in which it fits. What only vanished since
 *   then makes room.
 * - A contender leaves by a delete that names the revision at which it was written last: its `create_revision` follows from that.
 * - Who asks for another number leaves and joins in one step, under its other name.
 */
import type { ICompare, IRequestOp, ITxnRequest } from "etcd3"
import type { Range, SemaphoreNames, Slot } from "./names.ts"
import { contender as contenderName, otherSlot, slotOf, under } from "./names.ts"
import type { Contender, Value, View } from "./view.ts"
import { encode } from "./view.ts"

/** What is known of a contender; `holds` if it is known to hold. */
export type Entry = Omit<Contender, "identifier" | "seat">

/** Whose txns may share a call. Those with long names don't: a request and its answer may not be too large. */
export const sharing = ({ folder }: SemaphoreNames, contender = folder): string | undefined =>
  contender.length < 1000 ? folder : undefined

/** As many keys of a semaphore are read without a watch. If there are more, it pays to watch. */
export const mostRead = 17

/** Also of a range: then nothing is in it. */
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

/** Also true of an empty range. */
const nothingNewIn = (range: Range, revision: bigint): ICompare => ({
  target: "Mod",
  result: "Less",
  ...range,
  mod_revision: `${revision + 1n}`
})

const remove = (key: Buffer): IRequestOp => ({ request_delete_range: { key } })

export const range = (range: Range, more: object = {}): IRequestOp => ({ request_range: { ...range, ...more } })

export const some = ({ all }: SemaphoreNames): IRequestOp => range(all, { limit: String(mostRead) })

/** What was put since a view, and how many keys there are: none, and as many as there were, if the view is the present state. */
export const since = ({ all }: SemaphoreNames, { revision }: View): IRequestOp =>
  range(all, { min_mod_revision: `${revision + 1n}`, keys_only: true })

/**
 * Joins the line, if its contender is not in it, or has there what is known of it, which it then gives up (B1, B2).
 *
 * Answers some keys of the semaphore if `reads` is set.
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
 * Gives up what was a place when it was seen last. Answers those up to it in the line, if they are few enough to hold together: so it is
 * known whether it was a hold by then. Those of `stay` must be there.
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

/** Writes another value and keeps the lease. If `fresh` is given, nothing may be new, and `stay` must be there. */
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

/** Moves contenders to another lease, each if it is as it is known, and to another owner. Their tokens stay. */
export const move =
  (owner: string, moves: ReadonlyArray<{ readonly contender: string; readonly known: Entry }>) =>
  (lease: string): ITxnRequest => ({
    success: moves.map(({ contender, known }) => {
      const key = slotOf(contender, known.slot)
      return {
        request_txn: {
          compare: [isUnmodified(key, known)],
          success: [{ request_put: { key, value: encode({ ...known, owner }), lease } }]
        }
      }
    })
  })

/** Is seen by those who watch for it, and gone with its lease. */
export const notice = (key: Buffer, lease: string): ITxnRequest => ({ success: [{ request_put: { key, lease } }] })
