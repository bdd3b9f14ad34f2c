/**
 * The requests of the protocol: each is one txn.
 *
 * What makes them safe (B2, S1, S3):
 *
 * - A contender with a place in line acquires what it waits for if the place is still there, and if nothing was *noted* since
 *   the revision at which it saw that its turn has come. For once its turn has come nobody takes it away: who comes later, or
 *   stands further back, counts the place. So those whose turn comes at the same time don't get into each other's way, whatever
 *   happens around them. Three things do take a turn away, and leave a note: an acquire that passes places with a smaller limit
 *   than its own (the limit changes during a deployment), an acquire of more than was waited for, and a place whose number of
 *   permits or limit changes. A note lasts as long as the hold or place that it is about.
 * - Any other contender, without a place or with one for fewer permits or a larger limit, acquires if neither a hold nor a
 *   place was added or changed since the revision it saw. If it wants all permits, and saw nothing, this says that the
 *   semaphore is empty: then it need not look first.
 * - What only vanished since then, holds or places, delays nobody.
 * - A contender joins the line if what it saw in its way is still there: an operation that finds a free way does not stand in
 *   line for a moment, for others to see (B9). The exception is one that was refused again and again, or that has more in its
 *   way than a txn may compare: it joins, looks, and goes if it can. Then others may see it in line before it acquires.
 * - A hold is always created, never put over another: its create_revision is the number of this acquisition.
 */
import type { ICompare, IRequestOp, ITxnRequest } from "etcd3"
import type { ContenderNames, Range, SemaphoreNames, Slot } from "./names.ts"
import { entry as entryName } from "./names.ts"
import type { Blocker, Hold, Place, View } from "./view.ts"
import { ahead, holdValue, placeValue } from "./view.ts"

const isAbsent = (key: Buffer): ICompare => ({
  target: "Create",
  result: "Equal",
  key,
  create_revision: "0"
})

const isStill = (key: Buffer, { created }: Hold | Place): ICompare => ({
  target: "Create",
  result: "Equal",
  key,
  create_revision: `${created}`
})

const isUnmodified = (key: Buffer, { modified }: Hold | Place): ICompare => ({
  target: "Mod",
  result: "Equal",
  key,
  mod_revision: `${modified}`
})

/** Also true of an empty range. */
const nothingNewIn = (range: Range, { revision }: View): ICompare => ({
  target: "Mod",
  result: "Less",
  ...range,
  mod_revision: `${revision + 1n}`
})

const put = (key: Buffer, value: Buffer, lease: string): IRequestOp => ({ request_put: { key, value, lease } })

const remove = (key: Buffer): IRequestOp => ({ request_delete_range: { key } })

const nothing = Buffer.alloc(0)

const range = (request: Range | { readonly key: Buffer }, more: object = {}): IRequestOp => ({
  request_range: { ...request, ...more }
})

/** The end of a line, and the place of one who may stand further ahead. */
export interface EndOfLine {
  readonly count: number
  readonly place: Buffer
}

/**
 * What there is of a semaphore.
 *
 * Answers: the holds in the order of acquisition; the notes; the line in its order. Or else of the line its end, last first; and
 * the place.
 */
export const look = (names: SemaphoreNames, end?: EndOfLine): ITxnRequest => ({
  success: [
    range(names.holds, { sort_target: "Create", sort_order: "Ascend" }),
    range(names.notes),
    ...end
      ? [
        range(names.line, { sort_target: "Create", sort_order: "Descend", limit: String(end.count) }),
        range({ key: end.place })
      ]
      : [range(names.line, { sort_target: "Create", sort_order: "Ascend" })]
  ]
})

/**
 * Whether a view is the present state.
 *
 * If nothing was added or changed since, answers with how many names there are now: fewer, if something vanished.
 */
export const compareWith = (names: SemaphoreNames, view: View): ITxnRequest => ({
  compare: [nothingNewIn(names.all, view)],
  success: [range(names.all, { count_only: true })]
})

/** B10. Answers: the holds. */
export const holdsOf = (names: SemaphoreNames): ITxnRequest => ({ success: [range(names.holds)] })

const ownRanges = (names: ContenderNames) => [range(names.holds), range({ key: names.place }), range(names.notes)]

/** Answers: the hold, the place and the notes of one contender. */
export const own = (names: ContenderNames): ITxnRequest => ({ success: ownRanges(names) })

const isNoted = ({ others }: View, note: Buffer): boolean => others.has(note.toString())

/** Where a new hold goes. */
export const freeSlot = ({ holds }: View, identifier: string): Slot => holds.get(identifier)?.slot === "a" ? "b" : "a"

/** B1, B2: acquires, by the view in which it fits. The header's revision of the answer is the token. */
export const acquire = (
  names: ContenderNames,
  view: View,
  identifier: string,
  permits: number,
  limit: number,
  ttl: number
): (lease: string) => ITxnRequest => {
  const { semaphore } = names
  const place = view.line.get(identifier)
  const slot = freeSlot(view, identifier)
  const noted = isNoted(view, names.holdNote) || isNoted(view, names.placeNote) ||
    ahead(view, identifier).some((other) => other.limit < limit) ||
    (place !== undefined && permits > place.permits)
  const isCounted = place !== undefined && permits <= place.permits && limit >= place.limit
  const compare = [
    isAbsent(names.hold[slot]),
    ...place ? [isStill(names.place, place)] : [],
    ...isCounted
      ? [nothingNewIn(semaphore.notes, view)]
      : [nothingNewIn(semaphore.holds, view), nothingNewIn(semaphore.line, view)]
  ]
  return (lease) => ({
    compare,
    success: [
      put(names.hold[slot], holdValue(permits, ttl), lease),
      remove(names.hold[slot === "a" ? "b" : "a"]),
      remove(names.place),
      remove(names.placeNote),
      ...noted ? [put(names.holdNote, nothing, lease)] : []
    ]
  })
}

/**
 * B3: takes a place in line, or keeps it with another number, limit or lease, if all of `blockers` are still in its way.
 *
 * Answers: how many wait, or those before it if it had a place.
 */
export const stand = (
  names: ContenderNames,
  view: View,
  identifier: string,
  permits: number,
  limit: number,
  ttl: number,
  blockers: ReadonlyArray<Blocker>
): (lease: string) => ITxnRequest => {
  const place = view.line.get(identifier)
  const compare = [
    nothingNewIn(names.holds, view),
    place ? isUnmodified(names.place, place) : isAbsent(names.place),
    ...blockers.map(([other, entry]) =>
      isUnmodified(entryName(names.semaphore, other, "slot" in entry ? entry.slot : undefined), entry)
    )
  ]
  const noted = place !== undefined &&
    (place.permits !== permits || place.limit !== limit || isNoted(view, names.placeNote))
  return (lease) => ({
    compare,
    success: [
      put(names.place, placeValue(permits, ttl, limit), lease),
      ...noted ? [put(names.placeNote, nothing, lease)] : [],
      range(
        names.semaphore.line,
        place ? { keys_only: true, max_create_revision: `${place.created - 1n}` } : { count_only: true }
      )
    ]
  })
}

/** Gives up the place of one who holds what it asks for. */
export const leave = (names: ContenderNames, place: Place): ITxnRequest => ({
  compare: [isStill(names.place, place)],
  success: [remove(names.place), remove(names.placeNote)]
})

/** B5: moves a hold to another lease, with the note about it. The token stays. */
export const move = (names: ContenderNames, view: View, hold: Hold, ttl: number) => (lease: string): ITxnRequest => ({
  compare: [isUnmodified(names.hold[hold.slot], hold)],
  success: [
    put(names.hold[hold.slot], holdValue(hold.permits, ttl), lease),
    ...isNoted(view, names.holdNote) ? [put(names.holdNote, nothing, lease)] : []
  ]
})

/**
 * B4: gives up the place and at most `permits` of the hold; neither is anything that was created later, however late this
 * request takes effect.
 *
 * Answers, if they are not as they were: what there is of the contender.
 */
export const release = (
  names: ContenderNames,
  hold: Hold | undefined,
  place: Place | undefined,
  permits: number
): ITxnRequest => ({
  compare: [
    ...hold ? [isUnmodified(names.hold[hold.slot], hold)] : [isAbsent(names.hold.a), isAbsent(names.hold.b)],
    place ? isStill(names.place, place) : isAbsent(names.place)
  ],
  success: [
    remove(names.place),
    remove(names.placeNote),
    ...hold === undefined
      ? []
      : hold.permits > permits
      ? [{
        request_put: {
          key: names.hold[hold.slot],
          value: holdValue(hold.permits - permits, hold.ttl),
          ignore_lease: true
        }
      }]
      : [remove(names.hold[hold.slot]), remove(names.holdNote)]
  ],
  failure: ownRanges(names)
})
