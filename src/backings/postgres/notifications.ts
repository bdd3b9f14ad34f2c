/**
 * Hears which waiters may go: one LISTEN connection per layer, opened on the first wait, and one channel for all keys.
 *
 * The channel stands when a notification has been heard that operations' client has sent: behind a pooler a LISTEN can
 * succeed and hear nothing. What is notified while it is down is lost, so whoever listens is signalled whenever it stands again.
 */
import type { PgClient } from "@effect/sql-pg"
import { Effect, Queue, Schedule, Scope, Stream } from "effect"
import { inBackground } from "./background.ts"
import { shortName } from "./names.ts"

export interface Notifications {
  /** Emits when the channel stands, and for each message that names the holder, or any of the key if none is given. */
  readonly listen: (key: string, holderId: string | undefined) => Stream.Stream<void>
  readonly stands: () => boolean
}

/** Of a waiter, or of anyone who waits for a key. */
const nameOf = (key: string, holder: string | undefined) => `${key}:${holder ?? ""}`

/** A notification that is not heard within this time is not coming. */
const longestDelay = "2 seconds"

export const make = Effect.fnUntraced(function*(
  clients: { readonly listening: PgClient.PgClient; readonly notifying: PgClient.PgClient },
  channel: string,
  retrySchedule: Schedule.Schedule<unknown>
): Effect.fn.Return<Notifications, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const listeners = new Map<string, Set<() => void>>()
  let stands = false

  const signal = (name: string) => listeners.get(name)?.forEach((listener) => listener())

  const hear = (payload: string) => {
    const [key = "", holders = ""] = payload.split(":")
    signal(nameOf(key, undefined))
    for (const holder of holders.split(",")) signal(nameOf(key, holder))
  }

  /** Ends when the connection does; fails if the channel has never stood. */
  const listenOnce = Effect.scoped(Effect.gen(function*() {
    const messages = yield* clients.listening.listen(channel)
    const greeting = crypto.randomUUID()
    yield* clients.notifying.notify(channel, greeting).pipe(
      Effect.andThen(Effect.repeat(Queue.take(messages), { until: ({ payload }) => payload === greeting })),
      Effect.timeout(longestDelay)
    )
    stands = true
    for (const name of listeners.keys()) signal(name)
    yield* Effect.ignoreCause(Effect.forever(Effect.map(Queue.take(messages), ({ payload }) => hear(payload))))
  })).pipe(Effect.ensuring(Effect.sync(() => void (stands = false))))

  // The pause keeps a connection that always falls again from keeping us busy.
  const keepListening = Effect.ignoreCause(
    Effect.forever(Effect.andThen(Effect.retry(listenOnce, retrySchedule), Effect.sleep("100 millis")))
  )

  const start = yield* Effect.cached(Scope.provide(inBackground(keepListening), scope))

  return {
    listen: (key, holderId) =>
      Stream.callback<void>(
        Effect.fnUntraced(function*(queue) {
          const name = nameOf(shortName(key), holderId === undefined ? undefined : shortName(holderId))
          const listener = () => Queue.offerUnsafe(queue, undefined)
          yield* Effect.acquireRelease(
            Effect.sync(() => listeners.set(name, (listeners.get(name) ?? new Set()).add(listener))),
            () =>
              Effect.sync(() => {
                const ofName = listeners.get(name)
                if (ofName?.delete(listener) && ofName.size === 0) listeners.delete(name)
              })
          )
          if (stands) listener()
          yield* start
        }),
        { bufferSize: 1, strategy: "sliding" }
      ),
    stands: () => stands
  }
})
