/** The calls of etcd that the backing uses, as effects: those that are interrupted are abandoned, and may still be carried out. */
import { Effect, Semaphore } from "effect"
import type { Etcd3, ITxnRequest, ITxnResponse, IWatchResponse } from "etcd3"
import type { Range } from "./names.ts"

export interface Renewal {
  /** The raft term in which the member was that answered, before it renewed. */
  readonly term: bigint
}

export interface Store {
  /** The client repeats what was not answered. What it sent first may then still take effect later. */
  readonly txn: (request: ITxnRequest, onRepeat?: () => void) => Effect.Effect<ITxnResponse, Error>
  /** The ID is ours, so that a lease can be revoked whose grant was not answered. */
  readonly grant: (lease: string, ttl: number) => Effect.Effect<void, Error>
  readonly revoke: (lease: string) => Effect.Effect<void, Error>
  /** Renews a lease; nothing if there is none. */
  readonly keepAlive: (lease: string) => Effect.Effect<Renewal | undefined, Error>
  /** Whole seconds that a lease has left, rounded down; below 0 if there is none. */
  readonly secondsLeft: (lease: string) => Effect.Effect<number, Error>
  /** Watches until it breaks. The first response says that the watch stands. */
  readonly watch: (
    range: Range,
    startRevision: bigint,
    onResponse: (response: IWatchResponse) => void
  ) => Effect.Effect<never, Error>
}

const says = (text: string) => (error: Error): boolean => error.message.includes(text)

export const isLeaseNotFound = says("requested lease not found")

/** What etcd answers to a JSON Web Token after any change of users or roles. */
const voidToken = "etcdserver: revision of auth store is old"
const isTokenVoid = says(voidToken)

type WatchStream = Awaited<ReturnType<Etcd3["watchClient"]["watch"]>>
type KeepAliveStream = Awaited<ReturnType<Etcd3["leaseClient"]["leaseKeepAlive"]>>

type CallOptions = NonNullable<Parameters<Etcd3["watchClient"]["watch"]>[0]>

type Interceptor = NonNullable<CallOptions["interceptors"]>[number]
type InterceptorOptions = Parameters<Interceptor>[0]
type NextCall = Parameters<Interceptor>[1]

/** A member that has lost its leader then breaks the watch, instead of keeping silent. */
const requireLeader = ((options: InterceptorOptions, nextCall: NextCall) => {
  const call = nextCall(options)
  const start = call.start.bind(call)
  call.start = (metadata, listener) => {
    metadata.set("hasleader", "true")
    start(metadata, listener)
  }
  return call
}) as Interceptor

/** Sees each attempt of a call. */
const noticeRepetition = (onRepeat: () => void) => {
  let isRepeated = false
  return ((options: InterceptorOptions, nextCall: NextCall) => {
    if (isRepeated) onRepeat()
    isRepeated = true
    return nextCall(options)
  }) as Interceptor
}

/**
 * Makes the client authenticate again and repeat the call, once, when the token is void. The client does so by itself only when
 * the server says "invalid auth token", so that is what the client is given to hear.
 */
const renewToken = () => {
  let isRenewed = false
  return ((options: InterceptorOptions, nextCall: NextCall) => {
    const call = nextCall(options)
    const start = call.start.bind(call)
    call.start = (metadata, listener) =>
      start(metadata, {
        onReceiveMetadata: (metadata) => listener?.onReceiveMetadata?.(metadata),
        onReceiveMessage: (message) => listener?.onReceiveMessage?.(message),
        onReceiveStatus: (status) => {
          const renew = !isRenewed && status.details.includes(voidToken)
          isRenewed ||= renew
          listener?.onReceiveStatus?.(renew ? { ...status, details: "etcdserver: invalid auth token" } : status)
        }
      })
    return call
  }) as Interceptor
}

/** Ended before it is cancelled: otherwise the client counts it as a failure of the host. */
const close = (stream: WatchStream | KeepAliveStream) => {
  stream.end()
  stream.cancel()
}

const none = () => []

export const make = (client: Etcd3): Store => {
  const renewing = Semaphore.makeUnsafe(1)

  const call = <A>(
    send: (options?: CallOptions) => Promise<A>,
    interceptors: () => ReadonlyArray<Interceptor> = none
  ) => {
    const attempt = (more: ReadonlyArray<Interceptor>) =>
      Effect.tryPromise({
        try: () => {
          const all = [...interceptors(), ...more]
          return send(all.length > 0 ? { interceptors: all } : undefined)
        },
        catch: (error) => error as Error
      })
    // One at a time: the first call gets a new token for all. To authenticate is slow, because the server hashes the password.
    return Effect.catchIf(
      attempt([]),
      isTokenVoid,
      () => renewing.withPermit(Effect.suspend(() => attempt([renewToken()])))
    )
  }

  const converse = <S extends WatchStream | KeepAliveStream, A>(
    open: () => Promise<S>,
    talk: (stream: S, done: (effect: Effect.Effect<A, Error>) => void) => void
  ) =>
    Effect.callback<A, Error>((resume) => {
      let stream: S | undefined
      let isDone = false
      const end = () => {
        isDone = true
        if (stream) close(stream)
      }
      const done = (effect: Effect.Effect<A, Error>) => {
        if (isDone) return
        resume(effect)
        end()
      }
      open().then((opened) => {
        if (isDone) return close(opened)
        stream = opened
        stream.on("error", (error: Error) => done(Effect.fail(error)))
        stream.on("end", () => done(Effect.fail(new Error("etcd ended the stream"))))
        talk(stream, done)
      }, (error: Error) => done(Effect.fail(error)))
      return Effect.sync(end)
    })

  return {
    txn: (request, onRepeat) =>
      call((options) => client.kv.txn(request, options), onRepeat && (() => [noticeRepetition(onRepeat)])),
    grant: (lease, ttl) =>
      Effect.catchIf(
        Effect.asVoid(call((options) => client.leaseClient.leaseGrant({ ID: lease, TTL: ttl }, options))),
        // The client repeats requests whose reply was lost.
        says("lease already exists"),
        () => Effect.void
      ),
    revoke: (lease) =>
      Effect.catchIf(
        Effect.asVoid(call((options) => client.leaseClient.leaseRevoke({ ID: lease }, options))),
        isLeaseNotFound,
        () => Effect.void
      ),
    keepAlive: (lease) =>
      converse<KeepAliveStream, Renewal | undefined>(() => client.leaseClient.leaseKeepAlive(), (stream, done) => {
        stream.on(
          "data",
          ({ TTL, header }) => done(Effect.succeed(Number(TTL) > 0 ? { term: BigInt(header.raft_term) } : undefined))
        )
        stream.write({ ID: lease })
        // The client repeats no streams: of several hosts, another may answer.
      }).pipe(Effect.retry({ times: 3 })),
    secondsLeft: (lease) =>
      Effect.map(
        call((options) => client.leaseClient.leaseTimeToLive({ ID: lease }, options)),
        ({ TTL }) => Number(TTL)
      ),
    watch: (range, startRevision, onResponse) =>
      converse(() => client.watchClient.watch({ interceptors: [requireLeader] }), (stream, done) => {
        stream.on("data", (response) => {
          if (response.canceled) done(Effect.fail(new Error(`The watch was canceled: ${response.cancel_reason}`)))
          else onResponse(response)
        })
        stream.write({ create_request: { ...range, start_revision: `${startRevision}` } })
      })
  }
}
