/** The subscriber connection, the same for a single server and for a cluster. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Cluster, ClusterOptions, Redis, RedisOptions } from "ioredis"
import type { EventEmitter } from "node:events"

export interface Subscriber {
  readonly subscribe: (channel: string) => Promise<unknown>
  readonly unsubscribe: (channel: string) => Promise<unknown>
  readonly onMessage: (listener: (channel: string, message: string) => void) => void
  /** Calls the listener when subscriptions may have been lost. Only `subscribe` restores them. */
  readonly onDisconnect: (listener: () => void) => void
}

const ignore = () => {}

/** Opens a connection with the options of the client, except those that would make it give up, or subscribe twice. */
export const open = (client: Redis | Cluster): Effect.Effect<Subscriber, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => isCluster(client) ? ofCluster(client) : ofServer(client)),
      ({ connection }) => Effect.sync(() => connection.disconnect())
    ),
    ({ connection, subscriber }) => {
      connection.on("error", ignore)
      return subscriber
    }
  )

/** Calls the listener whenever the client, or one of a Cluster's nodes, has connected. */
export const onReconnect = (client: EventEmitter, listener: () => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.forEach(["ready", "+node"], (event) =>
    Effect.acquireRelease(
      Effect.sync(() => client.on(event, listener)),
      () => Effect.sync(() => client.off(event, listener))
    ), { discard: true })

/** Returns what the client itself puts before all keys, but not before channels. */
export const keyPrefixOf = (client: Redis | Cluster): string =>
  client.options.keyPrefix || (isCluster(client) ? client.options.redisOptions?.keyPrefix : undefined) || ""

export const isCluster = (client: Redis | Cluster): client is Cluster => client.isCluster

/** Returns the milliseconds until the next attempt. It never gives up. */
const reconnectDelay = (times: number) => Math.min(times * 50, 1000)

const ofServer = (client: Redis) => {
  const options = {
    keyPrefix: "",
    autoResubscribe: false,
    autoResendUnfulfilledCommands: true,
    enableOfflineQueue: true,
    maxRetriesPerRequest: null,
    retryStrategy: reconnectDelay,
    sentinelRetryStrategy: reconnectDelay
  } satisfies RedisOptions
  const connection = client.duplicate(options)
  const subscriber: Subscriber = {
    subscribe: (channel) => connection.subscribe(channel),
    unsubscribe: (channel) => connection.unsubscribe(channel),
    onMessage: (listener) => connection.on("message", listener),
    onDisconnect: (listener) => connection.on("close", listener)
  }
  return { connection, subscriber }
}

/** Sharded pub/sub: a message goes to the nodes of its slot only. */
const ofCluster = (client: Cluster) => {
  const options = {
    // If the client sets these two for its nodes, they would change channels, and the answers of CLUSTER SLOTS.
    redisOptions: { keyPrefix: "", stringNumbers: false },
    keyPrefix: "",
    shardedSubscribers: true,
    lazyConnect: false,
    enableOfflineQueue: true,
    clusterRetryStrategy: reconnectDelay
  } satisfies ClusterOptions
  const connection = client.duplicate([], options)
  // Before the nodes are known, nothing is subscribed: it would be subscribed again later, which looks like a
  // reconnect.
  const ready = new Promise<void>((resolve) => connection.once("ready", resolve))
  const asked = new Set<string>()
  const unsubscribe = (channel: string) => {
    asked.delete(channel)
    return connection.sunsubscribe(channel)
  }
  const subscriber: Subscriber = {
    subscribe: async (channel) => {
      await ready
      // The client would remember the channel once more, and subscribe it as often after each reconnect.
      if (asked.has(channel)) unsubscribe(channel).catch(ignore)
      asked.add(channel)
      return connection.ssubscribe(channel)
    },
    unsubscribe,
    onMessage: (listener) => connection.on("smessage", listener),
    onDisconnect: (listener) => ready.then(() => connection.on("-node", listener).on("subscribersReady", listener))
  }
  return { connection, subscriber }
}
