/**
 * Hears which waiters the store has granted: one subscription per key and process, shared by all its waiters. It outlives the last
 * of them by a while, because a key that was contended once will be contended again.
 */
import { Effect, Fiber, Stream } from "effect"
import type { FencingToken } from "../Backing.ts"
import type { Contender } from "./contender.ts"
import type { Alarm, Keeper } from "./keeper.ts"

const idleMillis = 60_000

/** A grant may arrive before the answer that tells the number. As many are remembered. */
const mostEarly = 1000

interface Subscription {
  readonly waiters: Map<FencingToken, Contender>
  readonly early: Set<FencingToken>
  fiber: Fiber.Fiber<void>
  /** When it stood last: what was granted before may have been missed. */
  stoodAt: number
  idle: Alarm | undefined
}

const subscriptionsOf = new WeakMap<Keeper, Map<string, Subscription>>()

/** Grants a waiter when it is its turn. */
export const join = (keeper: Keeper, waiter: Contender): void => {
  const { backing: { onPermitsReleased } } = keeper
  const { fencingToken, key } = waiter.request
  if (onPermitsReleased === undefined) return
  const subscriptions = subscriptionsOf.get(keeper) ?? new Map<string, Subscription>()
  subscriptionsOf.set(keeper, subscriptions)
  const subscription = subscriptions.get(key) ?? open(keeper, key)
  subscriptions.set(key, subscription)

  if (subscription.idle !== undefined) keeper.cancel(subscription.idle)
  subscription.idle = undefined
  subscription.waiters.set(fencingToken!, waiter)
  if (subscription.early.delete(fencingToken!)) waiter.grant()
  else if (waiter.renewed <= subscription.stoodAt) waiter.look()
}

export const leave = (keeper: Keeper, waiter: Contender): void => {
  const { fencingToken, key } = waiter.request
  const subscriptions = subscriptionsOf.get(keeper)
  const subscription = subscriptions?.get(key)
  if (subscriptions === undefined || subscription === undefined) return
  subscription.waiters.delete(fencingToken!)
  if (subscription.waiters.size > 0) return
  subscription.idle = keeper.setAlarm(idleMillis, () => {
    subscriptions.delete(key)
    subscription.fiber.interruptUnsafe()
  })
}

const open = (keeper: Keeper, key: string): Subscription => {
  const waiters = new Map<FencingToken, Contender>()
  const early = new Set<FencingToken>()
  const subscription: Subscription = {
    waiters,
    early,
    fiber: undefined!,
    stoodAt: Number.NEGATIVE_INFINITY,
    idle: undefined
  }
  const hear = (token: void | FencingToken) => {
    if (token === undefined) {
      subscription.stoodAt = keeper.now()
      for (const waiter of waiters.values()) waiter.look()
      return
    }
    const waiter = waiters.get(token)
    if (waiter !== undefined) return waiter.grant()
    early.add(token)
    if (early.size > mostEarly) early.delete(early.values().next().value!)
  }
  const listening = Effect.suspend(() =>
    Stream.runForEach(keeper.backing.onPermitsReleased!(key), (token) => Effect.sync(() => hear(token)))
  )
  subscription.fiber = keeper.run(Effect.ignoreCause(listening))
  return subscription
}
