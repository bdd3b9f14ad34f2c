import * as Queue from "effect/Queue"

/** Emits an event to whoever takes it, within this call: a queue by itself does so in a later turn of the event loop. */
export const emitNow = <A>(queue: Queue.Enqueue<A>, event: A): void => {
  Queue.offerUnsafe(queue, event)
  Queue.flushUnsafe(queue)
}
