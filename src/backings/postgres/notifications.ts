/**
 * Hears which waiters are granted: one LISTEN connection per layer, opened on the first wait, and one channel for all keys.
 *
 * The channel stands when a notification has been heard that operations' client has sent: behind a pooler a LISTEN can
 * succeed and hear nothing. While somebody listens this is checked now and then, because a connection can die without a word. What is
 * notified while it is down is lost, so whoever listens is notified whenever it stands again.
 */
import type { PgClient } from "@effect/sql-pg"
import { Effect, Queue, Schedule, Scope, Stream } from "effect"
import { FencingToken } from "../../core/Backing.ts"
import { inBackground } from "./background.ts"
import { shortName } from "./names.ts"

export interface Notifications {
  /** Emits `undefined` when the channel stands, and the tokens that are granted of a key. */
  readonly listen: (key: string) => Stream.Stream<void | FencingToken>
  readonly stands: () => boolean
}

/** A notification that is not heard within this time is not coming. */
const longestDelay = "2 seconds"

/** How often the channel is checked. */
const checkInterval = "10 seconds"

export const make = Effect.fnUntraced(function*(
  clients: { readonly listening: PgClient.PgClient; readonly notifying: PgClient.PgClient },
  channel: string,
  retrySchedule: Schedule.Schedule<unknown>
): Effect.fn.Return<Notifications, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const listeners = new Map<string, Set<(event: void | FencingToken) => void>>()
  let stands = false

  const hear = (payload: string) => {
    const [key = "", tokens = ""] = payload.split(":")
    const ofKey = listeners.get(key)
    if (ofKey === undefined) return
    for (const text of tokens.match(/\d+/g) ?? []) {
      const token = FencingToken(BigInt(text))
      for (const notify of ofKey) notify(token)
    }
  }

  /** Ends when the connection does, or is not heard any more; fails if the channel has never stood. */
  const listenOnce = Effect.gen(function*() {
    const messages = yield* clients.listening.listen(channel)
    let greeting: string | undefined = crypto.randomUUID()
    yield* clients.notifying.notify(channel, greeting).pipe(
      Effect.andThen(Effect.repeat(Queue.take(messages), { until: ({ payload }) => payload === greeting })),
      Effect.timeout(longestDelay)
    )
    stands = true
    for (const ofKey of listeners.values()) for (const notify of ofKey) notify()
    const hearing = Effect.forever(Effect.map(Queue.take(messages), ({ payload }) => {
      if (payload === greeting) greeting = undefined
      else hear(payload)
    }))
    const checking = Effect.gen(function*() {
      do {
        greeting = undefined
        yield* Effect.sleep(checkInterval)
        if (listeners.size === 0) continue
        greeting = crypto.randomUUID()
        // If it can't be sent, that says nothing about this connection.
        const sent = yield* Effect.exit(clients.notifying.notify(channel, greeting))
        if (sent._tag === "Failure") continue
        yield* Effect.sleep(longestDelay)
        if (greeting !== undefined) return
      } while (true)
    })
    yield* Effect.ignoreCause(Effect.raceFirst(hearing, checking))
  })

  /** In a scope of its own, whose end is not waited for: a dead connection does not answer. */
  const listenApart = Effect.gen(function*() {
    const own = yield* Scope.make()
    yield* Effect.onExit(Scope.provide(listenOnce, own), (exit) =>
      Effect.suspend(() => {
        stands = false
        return Effect.forkDetach(Scope.close(own, exit), { startImmediately: true })
      }))
  })

  // The pause keeps a connection that always falls again from keeping us busy.
  const keepListening = Effect.ignoreCause(
    Effect.forever(Effect.andThen(Effect.retry(listenApart, retrySchedule), Effect.sleep("100 millis")))
  )

  const start = yield* Effect.cached(Scope.provide(inBackground(keepListening), scope))

  return {
    listen: (key) =>
      Stream.callback<void | FencingToken>(Effect.fnUntraced(function*(queue) {
        const name = shortName(key)
        const notify = (event: void | FencingToken) => void Queue.offerUnsafe(queue, event)
        yield* Effect.acquireRelease(
          Effect.sync(() => listeners.set(name, (listeners.get(name) ?? new Set()).add(notify))),
          () =>
            Effect.sync(() => {
              const ofKey = listeners.get(name)
              if (ofKey?.delete(notify) && ofKey.size === 0) listeners.delete(name)
            })
        )
        if (stands) notify()
        yield* start
      })),
    stands: () => stands
  }
})
