/**
 * Hears which waiters may go: one subscriber connection per layer, opened on the first wait, and one channel per key and
 * process, shared by all waiters of the key.
 *
 * A channel *stands* while the server has confirmed its subscription. What is published while it does not is lost, so its
 * waiters are signalled whenever it stands again.
 */
import { Effect, Latch, Queue, RcMap, Scope, Stream } from "effect"
import type { Schedule } from "effect"
import type { Subscriber } from "./subscriber.ts"

export interface Notifications {
  /** Emits when the channel stands, and for each message that names the holder, or for any if `holderId` is absent. */
  readonly listen: (channel: string, holderId: string | undefined) => Stream.Stream<void>
  readonly stands: (channel: string) => boolean
}

interface Channel {
  readonly listeners: Map<string, Set<() => void>>
  /** Open while the channel must be subscribed. */
  readonly fallen: Latch.Latch
  stands: boolean
}

/** No holder has an empty id. */
const anyHolder = ""

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
        subscriber.onMessage((name, holderId) => {
          const listeners = channels.get(name)?.listeners
          for (const id of [holderId, anyHolder]) listeners?.get(id)?.forEach((signal) => signal())
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
          for (const signals of channel.listeners.values()) signals.forEach((signal) => signal())
        })),
        Effect.forever
      ))

  const subscriptions = yield* RcMap.make({
    lookup: Effect.fnUntraced(function*(name: string) {
      const channel: Channel = { listeners: new Map(), fallen: Latch.makeUnsafe(true), stands: false }
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
    listen: (name, holderId = anyHolder) =>
      Stream.callback<void>(
        Effect.fnUntraced(function*(queue) {
          const channel = yield* RcMap.get(subscriptions, name)
          const { listeners } = channel
          const signal = () => Queue.offerUnsafe(queue, undefined)
          yield* Effect.acquireRelease(
            Effect.sync(() => listeners.set(holderId, (listeners.get(holderId) ?? new Set()).add(signal))),
            () =>
              Effect.sync(() => {
                const signals = listeners.get(holderId)
                if (signals?.delete(signal) && signals.size === 0) listeners.delete(holderId)
              })
          )
          if (channel.stands) signal()
        }),
        { bufferSize: 1, strategy: "sliding" }
      ),
    stands: (name) => channels.get(name)?.stands === true
  }
  return notifications
})
