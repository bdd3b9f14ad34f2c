/**
 * The views that a process has of its semaphores. One watch per key keeps a view up to date, if the process waits for
 * the key, or if many use it.
 *
 * When the watch breaks (the connection is lost, a compaction, a member without leader), the view is made anew. Until
 * then, and without a watch, a caller looks. Callers of one semaphore share what they ask (share.ts).
 */
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { IKeyValue, IResponseOp, ITxnResponse } from "etcd3"
import { FencingToken } from "../../core/Backing.ts"
import { after, SemaphoreNames } from "./names.ts"
import * as Requests from "./requests.ts"
import { patience, share } from "./share.ts"
import type { Store } from "./store.ts"
import type { Contender } from "./view.ts"
import { View } from "./view.ts"

export interface Lines {
  /** Returns the view that the watch keeps, or nothing while no watch stands. */
  readonly view: (names: SemaphoreNames) => View | undefined
  /** Returns the view at this revision, or at a later one. */
  readonly at: (names: SemaphoreNames, revision: bigint) => Effect.Effect<View, Error>
  /** The same, or nothing if the watch does not show the revision soon, but later. */
  readonly soon: (names: SemaphoreNames, revision: bigint) => Effect.Effect<View | undefined, Error>
  /**
   * Returns the views as they are now, in the same order, and the term of a request that a majority confirmed. If only
   * some holders of a semaphore matter, `holders` returns their keys: a large line without a watch is then not read.
   */
  readonly now: (
    all: ReadonlyArray<SemaphoreNames>,
    holders?: (names: SemaphoreNames) => ReadonlyArray<Buffer> | undefined
  ) => Effect.Effect<
    { readonly views: ReadonlyArray<View>; readonly term: bigint },
    Error
  >
  /** Takes note of a release of this process. */
  readonly released: (names: SemaphoreNames, revision: bigint) => void
  /** Waits until the watch shows the last release of this process, at most for `patience`, and only if there are waiters. */
  readonly afterRelease: (names: SemaphoreNames) => Effect.Effect<unknown>
  /** Reads the whole semaphore, without a watch. */
  readonly look: (names: SemaphoreNames) => Effect.Effect<View, Error>
  readonly listen: (names: SemaphoreNames) => Stream.Stream<void | FencingToken>
  readonly changes: (names: SemaphoreNames) => Stream.Stream<void>
}

/** Nothing: the watch stands. "changed": it has shown events. A token: a waiter of this process was granted. */
type LineEvent = void | "changed" | FencingToken

/** How long a watch may be silent after an event is overdue. Then its connection is dead, or its member is frozen. */
const silencePatience = "2 seconds"

/** How long a part of a look may take, or a watch until it stands. After that, it is better to try another connection. */
const startPatience = "5 seconds"

/** How long a contender that joins a long line waits for the watch to show its place. */
const soon = "1 second"

/** How long a watch outlives its last use, because a key that was contended once will be contended again. */
const idleTimeToLive = "10 seconds"

/** The most reads in one txn: etcd allows 128 operations. */
const mostQuestions = 125

/** The most keys that one request reads: the client takes no more than 4 MB in one answer, and names may be long. */
export const mostAtOnce = 250

const mostRounds = 3

interface Line {
  view: View | undefined
  /** Whether the watch has broken, or could not be begun, and does not stand again. Maybe it never will. */
  isDown: boolean
  /** How often the watch, or the look before it, has given a sign of life. */
  heard: number
  /** The revision of the last release of this process. */
  released: bigint
  /** What `heard` was when somebody last waited for that: a dead watch is waited for once. */
  waitedAt: number
  readonly listeners: Set<(event: LineEvent) => void>
  /** The callers that wait until the view shows a revision. `resume` says whether it does, or the watch has broken. */
  readonly waits: Set<{ readonly revision: bigint; readonly resume: (isSeen: boolean) => void }>
  /** Completed when one of them has waited in vain. */
  missed: Deferred.Deferred<void>
}

export const revisionOf = ({ header }: ITxnResponse): bigint => BigInt(header.revision)

/** Returns the view that the answer to `Requests.some` gives, or nothing if the semaphore has more keys. */
export const ofSome = (names: SemaphoreNames, answer: ITxnResponse, op: IResponseOp): View | undefined =>
  op.response_range.more ? undefined : new View(names, revisionOf(answer), op.response_range.kvs)

export const make = Effect.fnUntraced(function*(
  store: Store,
  watches: boolean,
  retrySchedule: Schedule.Schedule<unknown>,
  /** Takes note of a grant. Returns whether the contender is this process's. */
  isOurs: (names: SemaphoreNames, granted: Contender) => boolean
): Effect.fn.Return<Lines, never, Scope.Scope> {
  const lines = new Map<string, Line>()

  const lookOnce = (names: SemaphoreNames, onPart: () => void) =>
    Effect.gen(function*() {
      const kvs: Array<IKeyValue> = []
      let at: bigint | undefined
      while (true) {
        const last = kvs.at(-1)
        const rest = last === undefined ? names.all : { ...names.all, key: after(last.key) }
        const more = { limit: String(mostAtOnce), ...at === undefined ? {} : { revision: `${at}` } }
        const answer = yield* Effect.timeout(store.txn({ success: [Requests.range(rest, more)] }), startPatience)
        const part = answer.responses[0]!.response_range
        at ??= revisionOf(answer)
        kvs.push(...part.kvs)
        onPart()
        if (!part.more) return new View(names, at, kvs)
      }
    })

  const look = share(lookOnce)

  const announce = ({ view, waits }: Line) => {
    for (const wait of waits) {
      if (view !== undefined && view.revision < wait.revision) continue
      wait.resume(view !== undefined)
    }
  }

  /** Waits until the view shows a revision, at most until nothing is heard for `patience`. Returns whether it does. */
  const see = (line: Line, revision: bigint): Effect.Effect<boolean> =>
    Effect.callback<boolean>((resume) => {
      let { heard } = line
      const timer = setInterval(() => {
        if (heard !== line.heard) return void ({ heard } = line)
        if (line.view !== undefined) Deferred.doneUnsafe(line.missed, Effect.void)
        end(false)
      }, patience)
      const stop = () => {
        clearInterval(timer)
        line.waits.delete(wait)
      }
      const end = (isSeen: boolean) => {
        stop()
        resume(Effect.succeed(isSeen))
      }
      const wait = { revision, resume: end }
      line.waits.add(wait)
      return Effect.sync(stop)
    })

  const open = Effect.fnUntraced(function*(names: SemaphoreNames) {
    const line: Line = {
      view: undefined,
      isDown: false,
      heard: 0,
      released: 0n,
      waitedAt: -1,
      listeners: new Set(),
      waits: new Set(),
      missed: Deferred.makeUnsafe()
    }
    const emit = (event: LineEvent) => line.listeners.forEach((listener) => listener(event))

    /** Ends when an event of the watch is overdue, and the watch is silent for `silencePatience` after that. */
    const silence = Effect.gen(function*() {
      let before
      do {
        line.missed = Deferred.makeUnsafe()
        yield* Deferred.await(line.missed)
        before = line.heard
        yield* Effect.sleep(silencePatience)
      } while (line.heard !== before)
    })

    /** Ends when the watch breaks. Fails if it never stood. */
    const watchOnce = Effect.gen(function*() {
      const stands = yield* Deferred.make<void>()
      const view = yield* lookOnce(names, () => line.heard++)
      const watch = store.watch(names.all, view.revision + 1n, ({ created, events }) => {
        line.heard++
        if (created) {
          line.view = view
          line.isDown = false
          Deferred.doneUnsafe(stands, Effect.void)
          emit()
        }
        for (const granted of view.apply(events)) if (isOurs(names, granted)) emit(FencingToken(granted.token))
        if (events.length > 0) emit("changed")
        announce(line)
      })
      const inTime = Effect.timeout(Deferred.await(stands), startPatience)
      yield* Effect.raceFirst(watch, Effect.andThen(inTime, silence))
    }).pipe(
      Effect.catchIf(() => line.view !== undefined, () => Effect.void),
      Effect.ensuring(Effect.sync(() => {
        line.view = undefined
        line.isDown = true
        announce(line)
      }))
    )

    lines.set(names.folder, line)
    yield* Effect.addFinalizer(() => Effect.sync(() => lines.get(names.folder) === line && lines.delete(names.folder)))
    // Without the pause, a watch that always breaks at once would keep the process busy.
    yield* Effect.forkScoped(
      Effect.ignoreCause(
        Effect.forever(Effect.andThen(Effect.retry(watchOnce, retrySchedule), Effect.sleep("100 millis")))
      )
    )
    return line
  })

  const opened = yield* RcMap.make({ lookup: (folder: string) => open(new SemaphoreNames(folder)), idleTimeToLive })

  /** Calls the listener with each event of the semaphore until the scope closes. */
  const listen = Effect.fnUntraced(function*({ folder }: SemaphoreNames, listener: (event: LineEvent) => void) {
    const { listeners, view } = yield* RcMap.get(opened, folder)
    yield* Effect.acquireRelease(
      Effect.sync(() => listeners.add(listener)),
      () => Effect.sync(() => listeners.delete(listener))
    )
    if (view !== undefined) listener()
  })

  /** Returns the view of the watch at this revision, or nothing if the watch does not show it, or is off. */
  const watched = (names: SemaphoreNames, revision: bigint): Effect.Effect<View | undefined> =>
    Effect.gen(function*() {
      if (!watches) return undefined
      const line = lines.get(names.folder) ?? (yield* Effect.scoped(RcMap.get(opened, names.folder)))
      const isSeen = line.view !== undefined && line.view.revision >= revision || (yield* see(line, revision))
      return isSeen ? line.view : undefined
    })

  const at = (names: SemaphoreNames, revision: bigint): Effect.Effect<View, Error> =>
    Effect.flatMap(watched(names, revision), (view) => view === undefined ? look(names) : Effect.succeed(view))

  /** Asks about all of them in one txn. `now` is the present view of each, if the answer is enough to know it. */
  const askAll = (all: ReadonlyArray<SemaphoreNames>) =>
    Effect.suspend(() => {
      const asked = all.map((names) => {
        const view = lines.get(names.folder)?.view
        return { names, view, seen: view?.revision ?? 0n, size: view?.size ?? 0 }
      })
      const questions = asked.map(({ names, view }) => view ? Requests.since(names, view) : Requests.some(names))
      const subject = all.length === 1 ? Requests.sharing(all[0]!) : undefined
      return Effect.map(store.txn({ success: questions }, undefined, subject), (answer) => ({
        revision: revisionOf(answer),
        term: BigInt(answer.header.raft_term),
        asked: asked.map((one, index) => {
          const { response_range: { count, kvs } } = answer.responses[index]!
          const isPresent = kvs.length === 0 && Number(count) === one.size
          const now = one.view === undefined
            ? ofSome(one.names, answer, answer.responses[index]!)
            : isPresent
            ? one.view
            : undefined
          return { ...one, now }
        })
      }))
    })

  const askOne = share((names) => Effect.timeout(askAll([names]), startPatience))

  const ask = (all: ReadonlyArray<SemaphoreNames>) => all.length === 1 ? askOne(all[0]!) : askAll(all)

  /** Returns a view of some holders only. They fit into the limit with all before them, and so they do in a view without those. */
  const lookAt = (names: SemaphoreNames, holders: ReadonlyArray<Buffer>) =>
    Effect.map(
      store.txn({ success: holders.map((key) => Requests.range({ key })) }),
      (answer) =>
        new View(names, revisionOf(answer), answer.responses.flatMap(({ response_range }) => response_range.kvs))
    )

  /** Waits for the watch to catch up. Where others write all the time, it never does: after some rounds this looks. */
  const catchUp = (
    { names, seen }: { readonly names: SemaphoreNames; readonly seen: bigint },
    revision: bigint,
    rounds: number
  ): Effect.Effect<View, Error> =>
    Effect.gen(function*() {
      // `revision` may be that of another semaphore's write, which this watch never shows. So it is no use to wait for it.
      const view = rounds > 0 ? yield* watched(names, seen + 1n) : undefined
      if (view === undefined) return yield* look(names)
      if (view.revision >= revision) return view
      const { asked: [again], revision: later } = yield* ask([names])
      return again!.now ?? (yield* catchUp(again!, later, rounds - 1))
    })

  return {
    view: (names) => lines.get(names.folder)?.view,
    at,
    soon: (names, revision) =>
      Effect.flatMap(
        Effect.timeoutOrElse(watched(names, revision), { duration: soon, orElse: () => Effect.undefined }),
        (view) => view === undefined && (lines.get(names.folder)?.isDown ?? true) ? look(names) : Effect.succeed(view)
      ),
    now: (all, holdersOf) => {
      const answers = Effect.forEach(
        Arr.chunksOf(all, mostQuestions),
        (chunk) =>
          Effect.flatMap(ask(chunk), ({ asked, revision, term }) =>
            Effect.map(
              Effect.forEach(asked, (one) => {
                if (one.now !== undefined) return Effect.succeed(one.now)
                const holders = one.view === undefined ? holdersOf?.(one.names) : undefined
                return holders !== undefined && holders.length <= mostQuestions
                  ? lookAt(one.names, holders)
                  : catchUp(one, revision, mostRounds)
              }, { concurrency: "unbounded" }),
              (views) => ({ views, term })
            )),
        { concurrency: "unbounded" }
      )
      return Effect.map(answers, (answers) => ({
        views: answers.flatMap(({ views }) => views),
        term: answers.reduce((latest, { term }) => term > latest ? term : latest, 0n)
      }))
    },
    released: ({ folder }, revision) => {
      const line = lines.get(folder)
      if (line !== undefined) line.released = revision
    },
    afterRelease: ({ folder }) =>
      Effect.suspend(() => {
        const line = lines.get(folder)
        if (line?.view === undefined || line.view.revision >= line.released) return Effect.void
        if (line.view.waiters.size === 0 || line.waitedAt === line.heard) return Effect.void
        line.waitedAt = line.heard
        return Effect.timeoutOption(see(line, line.released), patience)
      }),
    look,
    listen: (names) =>
      Stream.callback<void | FencingToken>((queue) =>
        listen(names, (event) => event !== "changed" && Queue.offerUnsafe(queue, event))
      ),
    changes: (names) =>
      Stream.callback<void>((queue) => listen(names, () => Queue.offerUnsafe(queue, undefined)), {
        bufferSize: 1,
        strategy: "sliding"
      })
  }
})
