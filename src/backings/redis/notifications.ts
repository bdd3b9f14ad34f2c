/**
 * Hears which waiters are granted: one subscriber connection per layer, opened on the first wait, and one channel per key and
 * process, shared by all waiters of the key.
 *
 * A channel *stands* while the server has confirmed its subscription. What is published while it does not is lost, so whoever
 * listens is notified whenever it stands again.
 */
import { Effect, Latch, Queue, RcMap, Scope, Stream } from "effect"
import type { Schedule } from "effect"
import { FencingToken } from "../../core/Backing.ts"
import type { Subscriber } from "./subscriber.ts"

export interface Notifications {
  /** Emits `undefined` when the channel stands, and the tokens that are granted there. */
  readonly listen: (channel: string) => Stream.Stream<void | FencingToken>
  readonly stands: (channel: string) => boolean
  /** Whether nobody listens. */
  readonly isIdle: () => boolean
}

interface Channel {
  readonly listeners: Set<(event: void | FencingToken) => void>
  /** Open while the channel must be subscribed. */
  readonly fallen: Latch.Latch
  stands: boolean
}

/** A key that was contended once will be contended again: its channel outlives its last waiter by this time. */
const idleTimeToLive = "1 minute"

export const make = Effect.fnUntraced(function*(
  open: Effect.Effect<Subscriber, never, Scope.Scope>,
  retrySchedule: Schedule.Schedule<unknown>
) {
  const channels = new Map<string, Channel>()

  const subscriber = yield* Effect.cached(Scope.provide(
    Effect.tap(open, (subscriber) =>
      Effect.sync(() => {
        subscriber.onMessage((name, tokens) => {
          const listeners = channels.get(name)?.listeners
          if (listeners === undefined) return
          for (const text of tokens.match(/\d+/g) ?? []) {
            const token = FencingToken(BigInt(text))
            for (const notify of listeners) notify(token)
          }
        })
        subscriber.onDisconnect(() => {
          for (const channel of channels.values()) {
            channel.stands = false
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
          channel.stands = true
          for (const notify of channel.listeners) notify()
        })),
        Effect.forever
      ))

  const subscriptions = yield* RcMap.make({
    lookup: Effect.fnUntraced(function*(name: string) {
      const channel: Channel = { listeners: new Set(), fallen: Latch.makeUnsafe(true), stands: false }
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
    listen: (name) =>
      Stream.callback<void | FencingToken>(Effect.fnUntraced(function*(queue) {
        const channel = yield* RcMap.get(subscriptions, name)
        const notify = (event: void | FencingToken) => void Queue.offerUnsafe(queue, event)
        yield* Effect.acquireRelease(
          Effect.sync(() => channel.listeners.add(notify)),
          () => Effect.sync(() => channel.listeners.delete(notify))
        )
        if (channel.stands) notify()
      })),
    stands: (name) => channels.get(name)?.stands === true,
    isIdle: () => channels.size === 0
  }
  return notifications
})
