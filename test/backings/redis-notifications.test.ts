/** The subscriber connection of Redis, and how its subscriptions are kept, without a server. */
import { expect, it } from "@effect/vitest"
import { Effect, Schedule, Stream } from "effect"
import { Redis } from "ioredis"
import * as Notifications from "../../src/backings/redis/notifications.ts"
import type { Subscriber } from "../../src/backings/redis/subscriber.ts"
import * as Subscribers from "../../src/backings/redis/subscriber.ts"
import { until } from "../utils/until.ts"

it.live("a subscription that was refused until its schedule ended is tried again after the next reconnect", () =>
  Effect.gen(function*() {
    let attempts = 0
    let isUp = false
    let disconnect = () => {}
    const subscriber: Subscriber = {
      subscribe: () => {
        attempts++
        return isUp ? Promise.resolve() : Promise.reject(new Error("The cluster is down"))
      },
      unsubscribe: () => Promise.resolve(),
      onMessage: () => {},
      onDisconnect: (listener) => void (disconnect = listener)
    }
    const { listen } = yield* Notifications.make(Effect.succeed(subscriber), Schedule.recurs(1))
    const events: Array<unknown> = []
    yield* Effect.forkScoped(
      Stream.runForEach(listen("channel", (message) => [message]), (event) => Effect.sync(() => events.push(event)))
    )
    yield* until(Effect.sync(() => attempts === 2))
    isUp = true
    disconnect()
    yield* until(Effect.sync(() => events.length > 0))
    expect(events).toEqual([undefined])
    expect(attempts).toBe(3)
  }))

it.live("the subscriber goes on looking for a Sentinel when the client would give up", () =>
  Effect.gen(function*() {
    // Nothing listens at port 1.
    const client = new Redis({
      sentinels: [{ host: "127.0.0.1", port: 1 }],
      name: "primary",
      lazyConnect: true,
      sentinelRetryStrategy: () => null
    })
    let subscriber: Redis | undefined
    const duplicate = client.duplicate.bind(client)
    client.duplicate = (...args) => subscriber = duplicate(...args)
    const { subscribe } = yield* Subscribers.open(client)
    subscribe("channel").catch(() => {})
    let attempts = 0
    subscriber!.on("sentinelError", () => attempts++)
    yield* until(Effect.sync(() => attempts >= 2))
    expect(subscriber!.status).not.toBe("end")
  }))
