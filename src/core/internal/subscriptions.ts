/**
 * Listens for grants. All waiters of a key in this process share one subscription. It outlives the last of them by a minute, because a
 * key that was contended once will be contended again.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { FencingToken } from "../Backing.ts"
import type { Contender } from "./contender.ts"
import type { Keeper } from "./keeper.ts"
import { shield } from "./shield.ts"

const idleMillis = 60_000

/** This many without waiters are kept, because each takes some kilobytes. */
const mostIdle = 1000

/** The notification of a grant may come before the answer that has the waiter's token. This many of them are remembered. */
const mostEarly = 1000

export interface Subscription {
  readonly key: string
  readonly waiters: Set<Contender>
  /** The waiters that have a place, by its token. */
  readonly places: Map<FencingToken, Contender>
  readonly early: Set<FencingToken>
  readonly fiber: Fiber.Fiber<void>
  /** How often it emitted `undefined`: a grant before the last time may have been missed. */
  stood: number
}

/** Returns how often the subscription that a contender will share was established so far. */
export const timesStood = ({ config, keeper }: Contender): number => keeper.subscriptions.get(config.key)?.stood ?? 0

/**
 * Makes a waiter listen for its grant. If the subscription was established after it asked, it looks, because it may have missed the
 * grant. Returns a function that stops listening.
 */
export const join = (waiter: Contender, stoodWhenAsked: number): () => void => {
  const { config: { key }, keeper, token } = waiter
  if (keeper.backing.onPermitsReleased === undefined) return () => {}
  const subscription = keeper.subscriptions.get(key) ?? open(keeper, key)
  const { early, places, waiters } = subscription
  wake(keeper, subscription)
  waiters.add(waiter)
  if (token !== undefined) places.set(token, waiter)
  if (token !== undefined && early.delete(token)) waiter.grant()
  else if (subscription.stood !== stoodWhenAsked) waiter.look()

  return () => {
    if (token !== undefined) places.delete(token)
    if (!waiters.delete(waiter) || waiters.size > 0) return
    keeper.idleSubscriptions.set(subscription, keeper.setAlarm(idleMillis, () => close(keeper, subscription)))
    const [oldest] = keeper.idleSubscriptions.keys()
    if (keeper.idleSubscriptions.size > mostIdle) close(keeper, oldest!)
  }
}

/** From now on it is not idle. */
const wake = (keeper: Keeper, subscription: Subscription): void => {
  const alarm = keeper.idleSubscriptions.get(subscription)
  if (alarm === undefined) return
  keeper.cancel(alarm)
  keeper.idleSubscriptions.delete(subscription)
}

const close = (keeper: Keeper, subscription: Subscription): void => {
  wake(keeper, subscription)
  if (keeper.subscriptions.get(subscription.key) === subscription) keeper.subscriptions.delete(subscription.key)
  // Nobody waits for its end: it may hang on a store that does not answer.
  subscription.fiber.interruptUnsafe()
}

const open = (keeper: Keeper, key: string): Subscription => {
  const waiters: Subscription["waiters"] = new Set()
  const places: Subscription["places"] = new Map()
  const early: Subscription["early"] = new Set()
  const hear = (granted: void | FencingToken) => {
    if (granted === undefined) {
      subscription.stood++
      for (const waiter of waiters) waiter.look()
      return
    }
    const waiter = places.get(granted)
    if (waiter !== undefined) return shield(() => waiter.grant())
    early.add(granted)
    if (early.size > mostEarly) early.delete(early.values().next().value!)
  }
  const signals = Effect.suspend(() =>
    Stream.runForEach(keeper.backing.onPermitsReleased!(key), (granted) => Effect.sync(() => hear(granted)))
  )
  const subscription: Subscription = {
    key,
    waiters,
    places,
    early,
    // It must not emit before `subscription` is assigned.
    fiber: keeper.run(Effect.ignoreCause(Effect.andThen(Effect.yieldNow, signals))),
    stood: 0
  }
  keeper.subscriptions.set(key, subscription)
  // A subscription that has ended by itself must not be shared any longer.
  subscription.fiber.addObserver(() => {
    if (keeper.subscriptions.get(key) === subscription) keeper.subscriptions.delete(key)
  })
  return subscription
}
