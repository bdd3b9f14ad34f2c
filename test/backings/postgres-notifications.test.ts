/** The connection that listens, tested without a server. */
import type { PgClient } from "@effect/sql-pg"
import { expect, it } from "@effect/vitest"
import { Effect, Queue, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Notifications from "../../src/backings/postgres/notifications.ts"

it.effect("a connection that dies silently is replaced, although closing it never ends", () =>
  Effect.gen(function*() {
    const connections: Array<{ readonly queue: Queue.Queue<{ payload: string }>; isDead: boolean }> = []
    const client = {
      listen: () =>
        Effect.acquireRelease(
          Effect.gen(function*() {
            const queue = yield* Queue.unbounded<{ payload: string }>()
            connections.push({ queue, isDead: false })
            return queue
          }),
          () => connections.some(({ isDead }) => isDead) ? Effect.never : Effect.void
        )
    } as unknown as PgClient.PgClient
    const greet = (payload: string) =>
      Effect.sync(() => {
        for (const { isDead, queue } of connections) if (!isDead) Queue.offerUnsafe(queue, { payload })
      })
    const { granted, stands } = yield* Notifications.make(client, greet, "channel", Schedule.spaced("1 second"))
    let stood = 0
    yield* Effect.forkScoped(Stream.runForEach(granted("key"), () => Effect.sync(() => void stood++)))
    yield* TestClock.adjust("1 minute")
    expect([connections.length, stood, stands()]).toEqual([1, 1, true])
    connections[0]!.isDead = true
    yield* TestClock.adjust("13 seconds")
    expect([connections.length, stood, stands()]).toEqual([2, 2, true])
  }))

it.effect.each(["LISTEN", "greeting"] as const)(
  "a connection that dies silently is replaced, although the next %s is sent on another one that has died, too",
  (what) =>
    Effect.gen(function*() {
      let connections = 0
      let queue = yield* Queue.unbounded<{ payload: string }>()
      let isDead = false
      /** Never answers the first statement of this kind that is sent after the connection has died. */
      const sent = (kind: typeof what) =>
        Effect.suspend(() => {
          if (!isDead || kind !== what) return Effect.void
          isDead = false
          return Effect.never
        })
      const client = {
        listen: () =>
          Effect.gen(function*() {
            yield* sent("LISTEN")
            connections++
            return queue = yield* Queue.unbounded<{ payload: string }>()
          })
      } as unknown as PgClient.PgClient
      let lost: typeof queue | undefined
      const greet = (payload: string) =>
        Effect.andThen(
          sent("greeting"),
          Effect.sync(() => void (queue !== lost && Queue.offerUnsafe(queue, { payload })))
        )
      const { granted, stands } = yield* Notifications.make(client, greet, "channel", Schedule.spaced("1 second"))
      let stood = 0
      yield* Effect.forkScoped(Stream.runForEach(granted("key"), () => Effect.sync(() => void stood++)))
      yield* TestClock.adjust("1 second")
      expect([connections, stood, stands()]).toEqual([1, 1, true])
      lost = queue
      isDead = true
      yield* TestClock.adjust("1 minute")
      expect([connections, stood, stands()]).toEqual([2, 2, true])
    })
)
