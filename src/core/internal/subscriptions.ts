/**
 * Hears which waiters the store has granted: one subscription per key and process, shared by all its waiters. It outlives the last
 * of them by a while, because a key that was contended once will be contended again.
 *
 * A store that does not grant notifies each waiter by itself, and that asks again.
 */
import { Effect, Stream } from "effect"
import type { Fiber } from "effect"
import type { FencingToken } from "../Backing.ts"
import type { Contender } from "./contender.ts"
import type { Alarm } from "./keeper.ts"

const idleMillis = 60_000

/** A grant may arrive before the answer that tells the number. As many are remembered. */
const mostEarly = 1000

export interface Subscription {
  readonly waiters: Map<FencingToken | undefined, Contender>
  readonly early: Set<FencingToken>
  readonly fiber: Fiber.Fiber<void>
  /** How often it has come to stand: what was granted before may have been missed. */
  stood: number
  idle: Alarm | undefined
}

const nameOf = ({ config: { key }, request: { identifier }, token }: Contender) =>
  token === undefined ? `${key.length}:${key}${identifier}` : key

/** Of the subscription that a contender will share, if its store grants. */
export const timesStood = ({ config, keeper }: Contender): number => keeper.subscriptions.get(config.key)?.stood ?? 0

/** Tells a waiter of its grant. Whoever asked before the subscription stood looks. Returns how to stop that. */
export const join = (waiter: Contender, stoodWhenAsked: number): () => void => {
  const { keeper, token } = waiter
  if (keeper.backing.onPermitsReleased === undefined) return () => {}
  const name = nameOf(waiter)
  const subscription = keeper.subscriptions.get(name) ?? open(waiter, name)
  if (subscription.idle !== undefined) keeper.cancel(subscription.idle)
  subscription.idle = undefined
  subscription.waiters.set(token, waiter)
  if (token !== undefined && subscription.early.delete(token)) waiter.grant()
  else if (subscription.stood !== stoodWhenAsked) waiter.look()

  return () => {
    if (!subscription.waiters.delete(token) || subscription.waiters.size > 0) return
    const close = () => {
      if (keeper.subscriptions.get(name) === subscription) keeper.subscriptions.delete(name)
      // It is not waited for: it may hang on a store that does not answer.
      subscription.fiber.interruptUnsafe()
    }
    if (token === undefined) close()
    else subscription.idle = keeper.setAlarm(idleMillis, close)
  }
}

const open = ({ config: { key }, keeper, request: { identifier }, token }: Contender, name: string): Subscription => {
  const waiters: Subscription["waiters"] = new Map()
  const early: Subscription["early"] = new Set()
  const hear = (granted: void | FencingToken) => {
    if (granted === undefined) {
      subscription.stood++
      for (const waiter of waiters.values()) waiter.look()
      return
    }
    const waiter = waiters.get(granted)
    if (waiter !== undefined) return waiter.grant()
    early.add(granted)
    if (early.size > mostEarly) early.delete(early.values().next().value!)
  }
  const signals = Effect.suspend(() =>
    Stream.runForEach(
      keeper.backing.onPermitsReleased!(key, token === undefined ? identifier : undefined),
      (granted) => Effect.sync(() => hear(granted))
    )
  )
  const subscription: Subscription = {
    waiters,
    early,
    // Not before this is there to hear.
    fiber: keeper.run(Effect.ignoreCause(Effect.andThen(Effect.yieldNow, signals))),
    stood: 0,
    idle: undefined
  }
  keeper.subscriptions.set(name, subscription)
  // One that ends by itself is not to be shared any longer.
  subscription.fiber.addObserver(() => {
    if (keeper.subscriptions.get(name) === subscription) keeper.subscriptions.delete(name)
  })
  return subscription
}
