/** The backing of one process: the contract's operations, sent over the network to the store. */
import type { Cause } from "effect"
import { Duration, Effect, Queue, Stream } from "effect"
import type {
  DistributedSemaphoreBacking,
  FencingToken,
  RefreshRequest,
  SemaphoreState
} from "../../src/core/Backing.ts"
import type { Answer as CoreAnswer } from "../../src/core/internal/contender.ts"
import type { Operation } from "../../src/testing/internal/model/model.ts"
import type { Checker } from "./checker.ts"
import type { Network } from "./network.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import { Random } from "./random.ts"
import type { Store } from "./store.ts"
import type { World } from "./world.ts"

const nanos = Duration.toNanosUnsafe

interface Subscription {
  readonly key: string
  readonly queue: Queue.Queue<void | FencingToken, Cause.Done>
  stands: boolean
  unregister: () => void
}

export class Link {
  readonly backing: DistributedSemaphoreBacking
  private readonly world: World
  private readonly store: Store
  private readonly network: Network
  private readonly checker: Checker
  private readonly plan: Plan
  private readonly process: Process
  private readonly subscriptions = new Set<Subscription>()
  private readonly random: Random
  private readonly heard: Array<{ readonly key: string; readonly token: bigint }> = []

  constructor(world: World, store: Store, network: Network, checker: Checker, plan: Plan, process: Process) {
    this.world = world
    this.store = store
    this.network = network
    this.checker = checker
    this.plan = plan
    this.process = process
    this.random = new Random(`${plan.seed} ${process.name} notifications`)
    this.backing = this.make()
  }

  /** Makes the subscriptions of this process fall, and stand again after a while. */
  fall(millis: number): void {
    for (const subscription of this.subscriptions) {
      if (!subscription.stands) continue
      subscription.stands = false
      subscription.unregister()
      this.world.coverage.count("subscription: falls")
      this.world.tell(() => `the subscription of ${this.process.name} to ${subscription.key} falls`)
      this.world.after(millis, undefined, () => this.stand(subscription))
    }
  }

  private make(): DistributedSemaphoreBacking {
    const { network, plan, process, store } = this
    const operate = (key: string, operation: Operation) => store.operate(process.name, key, operation)
    const refresh = ({ fencingToken, holderId: id, key, limit, permits, ttl }: RefreshRequest) =>
      this.known(
        key,
        operate(key, { _tag: "refresh", id, permits, limit, ttl: nanos(ttl), token: fencingToken }) as CoreAnswer
      )
    return {
      tryAcquire: (key, id, ttl, limit, permits, options) =>
        network.send({
          process,
          operation: "tryAcquire",
          subjects: [{ key, id }],
          within: options?.within === undefined ? undefined : Duration.toMillis(options.within),
          perform: () => {
            const { queue = false } = options ?? {}
            const answer = operate(key, { _tag: "tryAcquire", id, permits, limit, ttl: nanos(ttl), queue })
            return this.known(key, answer as CoreAnswer)
          }
        }),
      release: (key, id, permits, options) =>
        network.send({
          process,
          operation: "release",
          subjects: [{ key, id }],
          token: options?.fencingToken,
          perform: () => operate(key, { _tag: "release", id, permits, token: options?.fencingToken }) as number
        }),
      refresh: (key, holderId, ttl, limit, permits, options) =>
        network.send({
          process,
          operation: "refresh",
          subjects: [{ key, id: holderId }],
          token: options?.fencingToken,
          perform: () => refresh({ key, holderId, ttl, limit, permits, ...options })
        }),
      refreshAll: plan.refreshesTogether
        ? (requests) =>
          network.send({
            process,
            operation: "refreshAll",
            subjects: requests.map(({ holderId: id, key }) => ({ key, id })),
            perform: () => requests.map(refresh)
          })
        : undefined,
      getCount: (key) =>
        network.send({
          process,
          operation: "getCount",
          subjects: [],
          perform: () => operate(key, { _tag: "getCount" }) as number
        }),
      inspect: (key) =>
        network.send({
          process,
          operation: "inspect",
          subjects: [],
          perform: () => operate(key, { _tag: "inspect" }) as SemaphoreState
        }),
      onPermitsReleased: plan.notifies ? (key) => this.subscribe(key) : undefined
    }
  }

  /** B3: no `retryAfter` while notifications are off or down. */
  private known(key: string, answer: CoreAnswer): CoreAnswer {
    if (typeof answer === "boolean" || answer._tag === "Acquired") return answer
    const stands = Array.from(this.subscriptions).some((subscription) =>
      subscription.key === key && subscription.stands
    )
    return this.plan.notifies && stands ? answer : { ...answer, retryAfter: undefined }
  }

  private subscribe(key: string): Stream.Stream<void | FencingToken> {
    return Stream.callback<void | FencingToken>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const subscription: Subscription = { key, queue, stands: false, unregister: () => {} }
          this.subscriptions.add(subscription)
          this.world.after(this.random.between(0.1, 3), undefined, () => this.stand(subscription))
          return subscription
        }),
        (subscription) =>
          Effect.sync(() => {
            this.subscriptions.delete(subscription)
            this.checker.forgets(this.process, subscription.key)
            subscription.unregister()
          })
      )
    )
  }

  private stand(subscription: Subscription): void {
    const { key, queue } = subscription
    if (!this.subscriptions.has(subscription)) return
    const { network, process, store, world } = this
    if (network.down !== undefined || network.frozen || network.cut.has(process)) {
      world.after(100, undefined, () => this.stand(subscription))
      return
    }
    const listener = { process: process.name, hear: (token: bigint | undefined) => this.carry(subscription, token) }
    const ofKey = store.listeners.get(key) ?? new Set()
    store.listeners.set(key, ofKey.add(listener))
    subscription.unregister = () => ofKey.delete(listener)
    subscription.stands = true
    world.after(this.random.between(0.1, 2), process, () => {
      if (!subscription.stands) return
      world.coverage.count("subscription: stands")
      world.tell(() => `${process.name} hears that its subscription to ${key} stands`)
      this.checker.stood(process, key)
      Queue.offerUnsafe(queue, undefined)
    })
  }

  /** A notification has a fate, too. */
  private carry(subscription: Subscription, token: bigint | undefined): void {
    const { plan: { network: rates }, random, world } = this
    const troubled = !this.network.calm && !this.network.cut.has(this.process)
    if (this.network.cut.has(this.process) || troubled && random.chance(rates.notificationLost)) {
      return world.coverage.count("notification: lost")
    }
    const late = troubled && random.chance(rates.notificationLate)
    const times = troubled && random.chance(rates.notificationDoubled) ? 2 : 1
    for (let time = 0; time < times; time++) {
      this.hear(subscription, token, late || time > 0 ? random.logBetween(1, 5000) : random.between(0.1, 2))
    }
    if (late) world.coverage.count("notification: late")
    if (times > 1) world.coverage.count("notification: doubled")
    if (token === undefined) return
    if (troubled && random.chance(rates.notificationStray) && this.heard.length > 0) {
      const stray = random.pick(this.heard)
      if (stray.key === subscription.key) {
        world.coverage.count("notification: of a place that has gone")
        this.hear(subscription, stray.token, random.between(0.1, 2))
      }
    }
    this.heard.push({ key: subscription.key, token })
  }

  private hear(subscription: Subscription, token: bigint | undefined, millis: number): void {
    const { checker, process, world } = this
    world.after(millis, process, () => {
      if (!this.subscriptions.has(subscription) || this.network.cut.has(process)) return
      world.coverage.count("notification: heard")
      world.tell(() => `${process.name} hears that ${subscription.key} has granted ${token ?? "something"}`)
      if (token === undefined) checker.signalled(process, subscription.key)
      else checker.heard(process, subscription.key, token)
      Queue.offerUnsafe(subscription.queue, token as FencingToken | undefined)
    })
  }
}
