/** The calls of etcd that the backing uses, as effects. Interruption abandons a call: etcd may still carry it out. */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { Etcd3, ITxnRequest, IWatchResponse } from "etcd3"
import * as KeepAlives from "./keepAlives.ts"
import type { Range } from "./names.ts"
import * as Txns from "./txns.ts"

const says = (text: string) => (error: Error): boolean => error.message.includes(text)

export const isLeaseNotFound = says("requested lease not found")

/** etcd's answer to a JSON Web Token that is older than the last change of users or roles. */
const voidToken = "etcdserver: revision of auth store is old"

const isTokenVoid = says(voidToken)

type Options = NonNullable<Parameters<Etcd3["watchClient"]["watch"]>[0]>
type Interceptor = NonNullable<Options["interceptors"]>[number]
type Call = ReturnType<Parameters<Interceptor>[1]>

/** Makes an interceptor that changes how a call starts. */
const intercept = (change: (start: Call["start"]) => Call["start"]) =>
  ((options, nextCall) => {
    const call = nextCall(options)
    call.start = change(call.start.bind(call))
    return call
  }) as Interceptor

/** Makes a member that has lost its leader break the watch. Without this, the watch would only be silent. */
const requireLeader = intercept((start) => (metadata, listener) => {
  metadata.set("hasleader", "true")
  start(metadata, listener)
})

/** Calls `onRepeat` when the client repeats a call: the client runs an interceptor once for each attempt. */
const noticeRepetition = (onRepeat: () => void): Interceptor => {
  let isRepeated = false
  return (options, nextCall) => {
    if (isRepeated) onRepeat()
    isRepeated = true
    return nextCall(options) as never
  }
}

/**
 * Makes the client authenticate again and repeat the call, once, if its token is void. The client does this only if the
 * server says "invalid auth token", so this interceptor changes the server's message to that.
 */
const renewToken = (): Interceptor => {
  let isRenewed = false
  return intercept((start) => (metadata, listener) =>
    start(metadata, {
      onReceiveMetadata: (metadata) => listener?.onReceiveMetadata?.(metadata),
      onReceiveMessage: (message) => listener?.onReceiveMessage?.(message),
      onReceiveStatus: (status) => {
        const renew = !isRenewed && status.details.includes(voidToken)
        isRenewed ||= renew
        listener?.onReceiveStatus?.(renew ? { ...status, details: "etcdserver: invalid auth token" } : status)
      }
    })
  )
}

export type Store = ReturnType<typeof make>

export const make = ({ kv, leaseClient, watchClient }: Etcd3) => {
  const renewing = Semaphore.makeUnsafe(1)

  const call = <A>(
    send: (options?: Options) => Promise<A>,
    interceptors: Array<Interceptor> = []
  ): Effect.Effect<A, Error> => {
    const attempt = (interceptors: Array<Interceptor>) =>
      Effect.tryPromise({
        try: () => send(interceptors.length > 0 ? { interceptors } : undefined),
        catch: (error) => error as Error
      })
    // One at a time: the first call gets a new token for all. Authenticating is slow, because the server hashes the
    // password.
    return Effect.catchIf(
      attempt(interceptors),
      isTokenVoid,
      () => renewing.withPermit(Effect.suspend(() => attempt([...interceptors, renewToken()])))
    )
  }

  const txn = (request: ITxnRequest, onRepeat?: () => void) =>
    call((options) => kv.txn(request, options), onRepeat && [noticeRepetition(onRepeat)])

  const shareCalls = Txns.make(txn, isLeaseNotFound)

  return {
    /**
     * Runs a txn. The client repeats an unanswered one: `onRepeat` says so, because the first attempt may take effect
     * later. A txn about a single semaphore may share a call with others: give its `subject`.
     */
    txn: (request: ITxnRequest, onRepeat?: () => void, subject?: Txns.Subject) =>
      subject === undefined ? txn(request, onRepeat) : shareCalls({ ...subject, request, onRepeat }),

    /** Grants a lease. Its ID is ours, so that we can revoke it even if the grant is never answered. */
    grant: (ID: string, TTL: number): Effect.Effect<KeepAlives.Renewal, Error> =>
      Effect.suspend(() => {
        const sent = performance.now()
        return call((options) => leaseClient.leaseGrant({ ID, TTL }, options)).pipe(
          Effect.map(({ header }) => ({ sent, term: BigInt(header.raft_term) })),
          // The client repeats a grant whose reply was lost.
          Effect.catchIf(says("lease already exists"), () => Effect.succeed({ sent, term: 0n }))
        )
      }),

    revoke: (ID: string) =>
      Effect.catchIf(
        Effect.asVoid(call((options) => leaseClient.leaseRevoke({ ID }, options))),
        isLeaseNotFound,
        () => Effect.void
      ),

    keepAlives: KeepAlives.make(() => leaseClient.leaseKeepAlive()),

    /** Returns the whole seconds that a lease has left, rounded down. */
    secondsLeft: (ID: string) =>
      Effect.map(
        call((options) => leaseClient.leaseTimeToLive({ ID }, options)),
        ({ TTL }) => Math.max(0, Number(TTL))
      ),

    /** Watches a range until the watch breaks. The first response says that the watch stands. */
    watch: (range: Range, startRevision: bigint, onResponse: (response: IWatchResponse) => void) =>
      Effect.callback<never, Error>((resume) => {
        let isEnded = false
        let close = () => {}
        const end = () => {
          isEnded = true
          close()
        }
        const fail = (error: Error) => {
          end()
          resume(Effect.fail(error))
        }
        watchClient.watch({ interceptors: [requireLeader] }).then((stream) => {
          close = () => KeepAlives.close(stream)
          if (isEnded) return close()
          stream.on("error", fail)
          stream.on("end", () => fail(new Error("etcd ended the stream")))
          stream.on("data", (response) => {
            if (response.canceled) fail(new Error(`The watch was canceled: ${response.cancel_reason}`))
            else if (!isEnded) onResponse(response)
          })
          stream.write({ create_request: { ...range, start_revision: `${startRevision}` } })
        }, fail)
        return Effect.sync(end)
      })
  }
}
