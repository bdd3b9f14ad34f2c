/**
 * Receives what is published, by one subscriber connection per layer. The first listener opens it. All listeners of a
 * channel share one subscription.
 *
 * A channel *stands* from the server's confirmation of the subscription until the connection is lost. Messages are lost
 * while it does not stand, so each listener is notified whenever it stands again.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Subscriber } from "./subscriber.ts"

export interface Notifications {
  /** Emits what `read` finds in each message of a channel. `undefined` is read when the channel begins to stand. */
  readonly listen: <A>(channel: string, read: (message: string | undefined) => Iterable<A>) => Stream.Stream<A>
  /** Notifies the listeners of a channel in this process. */
  readonly notify: (channel: string, message: string) => void
  /** Says that all listeners may have missed something, as if their channels began to stand again. */
  readonly missed: () => void
  /** Returns whether a channel has stood since a moment, in milliseconds of the monotonic clock. */
  readonly stoodSince: (channel: string, moment: number) => boolean
}

interface Channel {
  readonly listeners: Set<(message?: string) => void>
  /** Open while the channel must be subscribed. */
  readonly fallen: Latch.Latch
  /** Since when it stands, in milliseconds of the monotonic clock. */
  stands: number | undefined
}

/** A key that was contended once will be contended again: its channel outlives its last waiter by this time. */
const idleTimeToLive = "1 minute"

export const make = Effect.fnUntraced(function*(
  open: Effect.Effect<Subscriber, never, Scope.Scope>,
  retrySchedule: Schedule.Schedule<unknown>
) {
  const channels = new Map<string, Channel>()

  const notify = (name: string, message?: string) =>
    channels.get(name)?.listeners.forEach((listener) => listener(message))

  const subscriber = yield* Effect.cached(Scope.provide(
    Effect.tap(open, (subscriber) =>
      Effect.sync(() => {
        subscriber.onMessage(notify)
        subscriber.onDisconnect(() => {
          for (const channel of channels.values()) {
            channel.stands = undefined
            channel.fallen.openUnsafe()
          }
        })
      })),
    yield* Effect.scope
  ))

  const keepSubscribed = (name: string, channel: Channel) =>
    Effect.flatMap(subscriber, ({ subscribe }) =>
      channel.fallen.await.pipe(
        Effect.andThen(channel.fallen.close),
        Effect.andThen(Effect.retry(Effect.tryPromise(() => subscribe(name)), retrySchedule)),
        Effect.andThen(Effect.sync(() => {
          channel.stands = performance.now()
          notify(name)
        })),
        // When the schedule has ended, the next reconnect begins it anew.
        Effect.ignore,
        Effect.forever
      ))

  const subscriptions = yield* RcMap.make({
    lookup: Effect.fnUntraced(function*(name: string) {
      const channel: Channel = { listeners: new Set(), fallen: Latch.makeUnsafe(true), stands: undefined }
      channels.set(name, channel)
      yield* Effect.addFinalizer(() =>
        Effect.map(subscriber, ({ unsubscribe }) => {
          // Unless the name is in use again already.
          if (channels.get(name) !== channel) return
          channels.delete(name)
          unsubscribe(name).catch(() => {})
        })
      )
      yield* Effect.forkScoped(keepSubscribed(name, channel))
      return channel
    }),
    idleTimeToLive
  })

  const notifications: Notifications = {
    listen: <A>(name: string, read: (message: string | undefined) => Iterable<A>) =>
      Stream.callback<A>(Effect.fnUntraced(function*(queue) {
        const channel = yield* RcMap.get(subscriptions, name)
        const listener = (message?: string) => {
          for (const event of read(message)) Queue.offerUnsafe(queue, event)
        }
        yield* Effect.acquireRelease(
          Effect.sync(() => channel.listeners.add(listener)),
          () => Effect.sync(() => channel.listeners.delete(listener))
        )
        if (channel.stands !== undefined) listener()
      })),
    notify,
    missed: () => {
      for (const [name, { stands }] of channels) if (stands !== undefined) notify(name)
    },
    stoodSince: (name, moment) => (channels.get(name)?.stands ?? Number.POSITIVE_INFINITY) <= moment
  }
  return notifications
})
