/** What the store answers, as views. */
import { Effect } from "effect"
import type { ITxnResponse } from "etcd3"
import type { SemaphoreNames } from "./names.ts"
import * as Requests from "./requests.ts"
import type { Store } from "./store.ts"
import * as View from "./view.ts"

export const revisionOf = ({ header }: ITxnResponse): bigint => BigInt(header.revision)

/** Of all that the ranges of a request gave. */
export const viewOf = (names: SemaphoreNames, answer: ITxnResponse): View.View =>
  View.ofRange(names, revisionOf(answer), answer.responses.flatMap(({ response_range }) => response_range?.kvs ?? []))

/** A semaphore as it is now; of a long line only its end, if that is enough. */
export const look = (store: Store, names: SemaphoreNames, end?: Requests.EndOfLine): Effect.Effect<View.View, Error> =>
  Effect.map(store.txn(Requests.look(names, end)), (answer) => {
    const [holds, notes, line, place] = answer.responses.map(({ response_range }) => response_range)
    const isComplete = !line!.more
    const inOrder = end ? line!.kvs.toReversed() : line!.kvs
    const places = isComplete ? inOrder : [...place!.kvs, ...inOrder]
    return View.ofRange(names, revisionOf(answer), [...holds!.kvs, ...notes!.kvs, ...places], isComplete)
  })
