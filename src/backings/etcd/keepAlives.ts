/**
 * Renews leases: all of them through one stream, each by one message at a time. Callers that ask while a message is
 * under way share the next one. So the lease lasts a full ttl from the moment at which each of them asked.
 */
import * as Effect from "effect/Effect"
import type { Etcd3 } from "etcd3"

export interface Renewal {
  /** When the message was sent, in milliseconds of the monotonic clock. */
  readonly sent: number
  /** The raft term of the member that answered, as it was before it renewed the lease. */
  readonly term: bigint
}

type Stream = Awaited<ReturnType<Etcd3["leaseClient"]["leaseKeepAlive"]>>
type Resume = (answer: Effect.Effect<Renewal | undefined, Error>) => void

/** How long a message may take. After that, the connection counts as dead, or the member as frozen. */
const patienceMillis = 1000

/** How long a message may take once a caller has given up. */
const lessPatienceMillis = 300

/** Ends a stream before it cancels it: the client would count a mere cancellation as a failure of the host. */
export const close = (stream: { readonly end: () => void; readonly cancel: () => void }): void => {
  stream.end()
  stream.cancel()
}

export const make = (open: () => Promise<Stream>) => {
  const messages = new Map<
    string,
    { readonly sent: number; readonly askers: Set<Resume>; readonly next: Set<Resume> }
  >()
  let opening: Promise<Stream> | undefined
  let isClosed = false
  let watchdog: ReturnType<typeof setTimeout> | undefined

  /** Ends the stream. The next message opens another one, maybe to another member. */
  const reset = (error = new Error("The stream was ended")) => {
    const waiting = Array.from(messages.values(), ({ askers, next }) => [...askers, ...next]).flat()
    messages.clear()
    opening?.then(close, () => {})
    opening = undefined
    clearTimeout(watchdog)
    watchdog = undefined
    for (const resume of waiting) resume(Effect.fail(error))
  }

  const watch = () => {
    const late = performance.now() - patienceMillis
    for (const { sent } of messages.values()) if (sent <= late) return reset(new Error("etcd does not answer"))
    if (messages.size === 0) return void (watchdog = undefined)
    // A process that was busy for long reads first what has arrived meanwhile.
    const timer = setTimeout(() => setImmediate(() => watchdog === timer && watch()), patienceMillis)
    timer.unref?.()
    watchdog = timer
  }

  const start = () => {
    const mine = opening = open()
    const end = (error: Error) => {
      if (opening === mine) reset(error)
    }
    mine.then((stream) => {
      stream.on("error", end)
      stream.on("end", () => end(new Error("etcd ended the stream")))
      stream.on("data", ({ ID, TTL, header }) => {
        const message = opening === mine ? messages.get(ID) : undefined
        if (message === undefined) return
        messages.delete(ID)
        if (message.next.size > 0) send(ID, message.next)
        const renewal = Number(TTL) > 0 ? { sent: message.sent, term: BigInt(header.raft_term) } : undefined
        for (const resume of message.askers) resume(Effect.succeed(renewal))
      })
    }, end)
    return mine
  }

  const send = (ID: string, askers: Set<Resume>) => {
    messages.set(ID, { sent: performance.now(), askers, next: new Set() })
    const mine = opening ?? start()
    mine.then((stream) => opening === mine && stream.write({ ID }), () => {})
    if (watchdog === undefined) watch()
  }

  /**
   * Renews a lease. Returns nothing if there is no such lease. It retries, because the client does not, and another
   * host may answer.
   */
  const renew = (lease: string, moreTimes = 3): Effect.Effect<Renewal | undefined, Error> =>
    Effect.catch(
      Effect.callback<Renewal | undefined, Error>((resume) => {
        if (isClosed) return resume(Effect.fail(new Error("The layer is closed")))
        const askers = messages.get(lease)?.next ?? new Set<Resume>()
        askers.add(resume)
        if (!messages.has(lease)) send(lease, askers)
        return Effect.sync(() => {
          const message = askers.delete(resume) ? messages.get(lease) : undefined
          if (message && message.sent <= performance.now() - lessPatienceMillis) reset()
        })
      }),
      (error) => moreTimes > 0 ? renew(lease, moreTimes - 1) : Effect.fail(error)
    )

  return {
    renew,
    reset,
    close: () => {
      isClosed = true
      reset()
    }
  }
}
