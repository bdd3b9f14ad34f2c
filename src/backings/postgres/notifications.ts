/**
 * Receives notifications of grants and revocations, by one LISTEN connection per layer and one channel for all keys.
 * The first listener opens the connection.
 *
 * The channel *stands* once it has received a greeting that the operations' client has sent: behind a pooler, a LISTEN
 * can succeed and receive nothing. While somebody listens, this is checked every `checkInterval`, because a connection
 * can die without a word. A greeting also says of what to notify the channel, besides the grants of its own waiters.
 * Notifications are lost while the channel does not stand, so all waiters are notified whenever it stands again.
 */
import type { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Revocation } from "../../core/Backing.ts"
import { FencingToken } from "../../core/Backing.ts"
import { inBackground } from "./background.ts"
import { shortName } from "./names.ts"

export interface Notifications {
  /** Emits tokens of a key in this process. `undefined` says that some may have been missed. */
  readonly notify: (key: string, tokens: string | undefined) => void
  /**
   * Emits `undefined` when the channel begins to stand, and the tokens of this process's waiters of a key as they are
   * granted.
   */
  readonly granted: (key: string) => Stream.Stream<void | FencingToken>
  /** Emits what any process revokes, of any key. */
  readonly revoked: Stream.Stream<Revocation>
  /** Emits when a place of a key is granted, or something of it revoked, in any process. */
  readonly changed: (key: string) => Stream.Stream<void>
  readonly stands: () => boolean
}

/** A notification that has not arrived within this time will not come. */
const longestDelay = "2 seconds"

/** How often the channel is checked. A greeting counts for three times as long. */
const checkInterval = "10 seconds"

/** The listeners, by the short name of their key. */
type Listeners<A> = Map<string, Set<(event: A) => void>>

const notify = <A>(listeners: Listeners<A>, name: string, event: A): void =>
  listeners.get(name)?.forEach((listener) => listener(event))

const add = <A>(
  listeners: Listeners<A>,
  name: string,
  listener: (event: A) => void
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => void listeners.set(name, (listeners.get(name) ?? new Set()).add(listener))),
    () =>
      Effect.sync(() => {
        const ofName = listeners.get(name)
        if (ofName?.delete(listener) && ofName.size === 0) listeners.delete(name)
      })
  )

/** The name under which all listeners for revocations are kept. */
const allKeys = ""

export const make = Effect.fnUntraced(function*(
  client: PgClient.PgClient,
  greet: (greeting: string, watched: ReadonlyArray<string>) => Effect.Effect<unknown, unknown>,
  channel: string,
  retrySchedule: Schedule.Schedule<unknown>
): Effect.fn.Return<Notifications, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const grants: Listeners<void | FencingToken> = new Map()
  const revocations: Listeners<Revocation> = new Map()
  const changes: Listeners<void> = new Map()
  let stands = false

  const notifyGranted = (name: string, tokens: string) => {
    for (const token of tokens.match(/\d+/g) ?? []) notify(grants, name, FencingToken(BigInt(token)))
  }

  /** Returns what handles the notifications of one connection. */
  const makeHear = () => {
    /** The parts that have come so far of revocations with long names, by their digests. */
    const parts = new Map<string, string>()
    return (payload: string) => {
      const [, digest, left, part] = /^revoked:(\w+):(\d+):(.*)$/s.exec(payload) ?? []
      if (digest === undefined) {
        const [name = "", tokens = ""] = payload.split(":")
        notifyGranted(name, tokens)
        return notify(changes, name, undefined)
      }
      const names = (parts.get(digest) ?? "") + part
      if (left !== "0") return void parts.set(digest, names)
      parts.delete(digest)
      const [key, holderId] = JSON.parse(names) as [string, string]
      notify(revocations, allKeys, { key, holderId })
      notify(changes, shortName(key), undefined)
    }
  }

  /** Ends when the connection ends, or receives nothing any more. Fails if the channel never stood. */
  const listenOnce = Effect.gen(function*() {
    const messages = yield* Effect.timeout(client.listen(channel), checkInterval)
    const hear = makeHear()
    let greeting: string | undefined = crypto.randomUUID()
    yield* greet(greeting, Array.from(changes.keys())).pipe(
      Effect.andThen(Effect.repeat(Queue.take(messages), { until: ({ payload }) => payload === greeting })),
      Effect.timeout(longestDelay)
    )
    stands = true
    for (const name of grants.keys()) notify(grants, name, undefined)
    const hearing = Effect.forever(Effect.map(Queue.take(messages), ({ payload }) => {
      if (payload === greeting) greeting = undefined
      else hear(payload)
    }))
    const checking = Effect.gen(function*() {
      do {
        greeting = undefined
        yield* Effect.sleep(checkInterval)
        if (grants.size + revocations.size + changes.size === 0) continue
        greeting = crypto.randomUUID()
        // A greeting that can't be sent says nothing about this connection.
        const sent = yield* Effect.exit(Effect.timeout(greet(greeting, Array.from(changes.keys())), longestDelay))
        if (sent._tag === "Failure") continue
        yield* Effect.sleep(longestDelay)
        if (greeting !== undefined) return
      } while (true)
    })
    yield* Effect.ignoreCause(Effect.raceFirst(hearing, checking))
  })

  /** Listens in a scope of its own. Nobody waits for its end, because a dead connection does not answer. */
  const listenApart = Effect.gen(function*() {
    const own = yield* Scope.make()
    yield* Effect.onExit(Scope.provide(listenOnce, own), (exit) =>
      Effect.suspend(() => {
        stands = false
        return Effect.forkDetach(Scope.close(own, exit), { startImmediately: true })
      }))
  })

  // Without the pause, a connection that always breaks at once would keep the process busy.
  const keepListening = Effect.ignoreCause(
    Effect.forever(Effect.andThen(Effect.retry(listenApart, retrySchedule), Effect.sleep("100 millis")))
  )

  const start = yield* Effect.cached(Scope.provide(inBackground(keepListening), scope))

  const greetNow = (...watched: ReadonlyArray<string>) =>
    inBackground(Effect.ignoreCause(greet(crypto.randomUUID(), watched)))

  return {
    notify: (key, tokens) => {
      if (tokens === undefined) notify(grants, shortName(key), undefined)
      else notifyGranted(shortName(key), tokens)
    },
    granted: (key) =>
      Stream.callback<void | FencingToken>(Effect.fnUntraced(function*(queue) {
        yield* add(grants, shortName(key), (event) => Queue.offerUnsafe(queue, event))
        if (stands) Queue.offerUnsafe(queue, undefined)
        yield* start
      })),
    revoked: Stream.callback<Revocation>(Effect.fnUntraced(function*(queue) {
      yield* add(revocations, allKeys, (event) => Queue.offerUnsafe(queue, event))
      yield* start
      // While nobody listened, the channel was not greeted, so the server may have forgotten it.
      if (stands) yield* greetNow()
    })),
    changed: (key) =>
      Stream.callback<void>(
        Effect.fnUntraced(function*(queue) {
          const name = shortName(key)
          yield* add(changes, name, () => Queue.offerUnsafe(queue, undefined))
          yield* start
          // The connection's greeting may have been sent already, without this name.
          yield* greetNow(name)
        }),
        { bufferSize: 1, strategy: "sliding" }
      ),
    stands: () => stands
  }
})
