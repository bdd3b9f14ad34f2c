/**
 * What a process sees of the semaphores that it waits for: one watch per key keeps a view of each up to date, and signals
 * those whose turn has come, and nobody else.
 *
 * After whatever broke the watch (the connection, a compaction, a member without leader) the view is made anew.
 */
import { Deferred, Effect, Option, Queue, RcMap, Schedule, Scope, Stream } from "effect"
import { look } from "./answers.ts"
import type { SemaphoreNames } from "./names.ts"
import type { Store } from "./store.ts"
import * as View from "./view.ts"

export interface Mirror {
  /** As it is now, and changes; absent while the watch does not stand. */
  readonly view: () => View.View | undefined
  /** For who knows of something later than a revision: waits until it is seen. Whether it is, and the watch still stands. */
  readonly changed: (revision: bigint) => Effect.Effect<boolean>
}

export interface Mirrors {
  readonly of: (key: string) => Mirror | undefined
  /** Emits when the watch stands, and whenever the turn of a waiter has come: any waiter's, if none is named. */
  readonly listen: (key: string, identifier: string | undefined) => Stream.Stream<void>
}

/** How long an event may take that is on its way. Then it is better to look. */
const patience = "250 millis"

/** How long it may be silent when there was something to tell. Then what it is connected with is dead, or frozen. */
const silencePatience = "2 seconds"

/** How long it may take until a watch stands. Then it is better to try another connection. */
const startPatience = "5 seconds"

interface Listening extends Mirror {
  readonly listeners: Map<string | undefined, Set<() => void>>
}

export const make = Effect.fnUntraced(function*(
  store: Store,
  namesOf: (key: string) => SemaphoreNames,
  retrySchedule: Schedule.Schedule<unknown>
): Effect.fn.Return<Mirrors, never, Scope.Scope> {
  const standing = new Map<string, Listening>()

  const makeMirror = Effect.fnUntraced(function*(key: string) {
    const names = namesOf(key)
    const listeners: Listening["listeners"] = new Map()
    let view: View.View | undefined
    let told: ReadonlySet<string> = new Set()
    let change = Deferred.makeUnsafe<void>()
    let missed = Deferred.makeUnsafe<void>()

    const signal = (identifier: string | undefined) => listeners.get(identifier)?.forEach((listener) => listener())

    const tell = (current: View.View) => {
      const able = View.ableToGo(current)
      let isNew = false
      for (const identifier of able) {
        if (told.has(identifier)) continue
        isNew = true
        signal(identifier)
      }
      if (isNew) signal(undefined)
      told = able
    }

    const announce = () => {
      const last = change
      change = Deferred.makeUnsafe()
      Deferred.doneUnsafe(last, Effect.void)
    }

    /** Ends when there was something to tell, and nothing is heard. */
    const silence = Effect.gen(function*() {
      do {
        missed = Deferred.makeUnsafe()
        yield* Deferred.await(missed)
      } while (Option.isSome(yield* Effect.timeoutOption(Deferred.await(change), silencePatience)))
    })

    /** Ends when the watch breaks; fails if it did not come to stand. */
    const watchOnce = Effect.gen(function*() {
      const stands = yield* Deferred.make<void>()
      const start = yield* Effect.timeout(look(store, names), startPatience)
      const watch = store.watch(names.all, start.revision + 1n, ({ created, events }) => {
        if (created) {
          Deferred.doneUnsafe(stands, Effect.void)
          view = start
          told = View.ableToGo(start)
          for (const identifier of listeners.keys()) signal(identifier)
        }
        if (events.length === 0 || view === undefined) return
        for (const [index, event] of events.entries()) {
          View.apply(view, names, event)
          // Whose turn was taken away, and then came again, has asked in vain between the two.
          if (event.kv.mod_revision !== events[index + 1]?.kv.mod_revision) tell(view)
        }
        announce()
      })
      const inTime = Effect.timeout(Deferred.await(stands), startPatience)
      yield* Effect.raceFirst(watch, Effect.andThen(inTime, silence))
    }).pipe(
      Effect.catchIf(() => view !== undefined, () => Effect.void),
      Effect.ensuring(Effect.sync(() => {
        view = undefined
        announce()
      }))
    )

    // The pause keeps a watch that always breaks again from keeping us busy.
    yield* Effect.forkScoped(
      Effect.ignoreCause(
        Effect.forever(Effect.andThen(Effect.retry(watchOnce, retrySchedule), Effect.sleep("100 millis")))
      )
    )

    const changed: Mirror["changed"] = (revision) =>
      Effect.suspend(() => {
        if (view === undefined) return Effect.succeed(false)
        if (view.revision !== revision) return Effect.succeed(true)
        return Effect.map(Effect.timeoutOption(Deferred.await(change), patience), (heard) => {
          if (Option.isNone(heard)) Deferred.doneUnsafe(missed, Effect.void)
          return Option.isSome(heard) && view !== undefined
        })
      })

    const mirror: Listening = { view: () => view, changed, listeners }
    yield* Effect.acquireRelease(
      Effect.sync(() => standing.set(key, mirror)),
      () => Effect.sync(() => standing.get(key) === mirror && standing.delete(key))
    )
    return mirror
  })

  const mirrors = yield* RcMap.make({ lookup: makeMirror, idleTimeToLive: "1 second" })

  return {
    of: (key) => standing.get(key),
    listen: (key, identifier) =>
      Stream.callback<void>(
        Effect.fnUntraced(function*(queue) {
          const { listeners, view } = yield* RcMap.get(mirrors, key)
          const listener = () => Queue.offerUnsafe(queue, undefined)
          yield* Effect.acquireRelease(
            Effect.sync(() => listeners.set(identifier, (listeners.get(identifier) ?? new Set()).add(listener))),
            () =>
              Effect.sync(() => {
                const named = listeners.get(identifier)
                if (named?.delete(listener) && named.size === 0) listeners.delete(identifier)
              })
          )
          if (view()) listener()
        }),
        { bufferSize: 1, strategy: "sliding" }
      )
  }
})
