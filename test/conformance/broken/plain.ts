/** The contract over an array, written so that each decision can be overridden by one that is wrong. */
import { Clock, Duration, Effect, Layer, Queue, Stream } from "effect"
import type { Acquired, RefreshRequest, Waiting } from "../../../src/core/Backing.ts"
import { DistributedSemaphoreBacking, FencingToken } from "../../../src/index.ts"
import type { Broken } from "./broken.ts"
import { brokenLayer } from "./broken.ts"

export interface Contender {
  readonly id: string
  token: bigint
  permits: number
  limit: number
  expiry: bigint
  holds: boolean
}

export type Request = Pick<Contender, "id" | "permits" | "limit" | "expiry">

const nanos = Duration.toNanosUnsafe
const second = 1_000_000_000n
const min = (...values: ReadonlyArray<bigint>) => values.reduce((a, b) => a < b ? a : b)

let lastToken = 0n

/** A semaphore of one key. */
export class Plain {
  line: Array<Contender> = []
  readonly listeners = new Set<(token: bigint) => void>()

  nextToken(): bigint {
    return ++lastToken
  }

  find(id: string, token?: bigint): Contender | undefined {
    return this.line.find((one) => one.id === id && (token === undefined || one.token === token))
  }

  /** Returns whether a contender and everyone before it fit into the smallest of their limits. */
  fits(contender: Contender): boolean {
    const front = this.line.slice(0, this.line.indexOf(contender) + 1)
    return front.reduce((sum, { permits }) => sum + permits, 0) <= Math.min(...front.map(({ limit }) => limit))
  }

  notify({ token }: Contender): void {
    this.listeners.forEach((listener) => listener(token))
  }

  grant(asker?: Contender): void {
    for (const contender of this.line) {
      if (contender.holds || !this.fits(contender)) continue
      contender.holds = true
      if (contender !== asker) this.notify(contender)
    }
  }

  remove(contender: Contender): void {
    this.line = this.line.filter((other) => other !== contender)
  }

  expire(now: bigint): void {
    const before = this.line.length
    this.line = this.line.filter(({ expiry }) => expiry > now)
    if (this.line.length < before) this.grant()
  }

  /** Answers a contender that asks again with the same number of permits. */
  keep(own: Contender, request: Request, queue: boolean): Contender | undefined {
    if (!queue && !own.holds) return undefined
    own.limit = Math.min(own.limit, request.limit)
    own.expiry = request.expiry
    return own
  }

  join(request: Request): Contender {
    const contender = { ...request, token: this.nextToken(), holds: false }
    this.line = [...this.line, contender]
    return contender
  }

  ask(request: Request, queue: boolean): Contender | undefined {
    const own = this.find(request.id)
    return own?.permits === request.permits ? this.keep(own, request, queue) : this.startOver(own, request, queue)
  }

  startOver(own: Contender | undefined, request: Request, queue: boolean): Contender | undefined {
    const before = this.line
    if (own) this.remove(own)
    const contender = this.join(request)
    if (!queue && !this.fits(contender)) {
      this.line = before
      return undefined
    }
    this.grant(contender)
    return contender
  }

  release(id: string, permits: number, token?: bigint): number {
    const own = this.find(id, token)
    if (own === undefined) return 0
    const freed = own.holds ? Math.min(own.permits, permits) : 0
    if (freed > 0 && freed < own.permits) own.permits -= freed
    else this.remove(own)
    this.grant()
    return freed
  }

  refresh(id: string, expiry: bigint, token?: bigint): Contender | undefined {
    const own = this.find(id, token)
    if (own) own.expiry = expiry
    return own
  }

  retryAfter(position: number, ttl: bigint, now: bigint): bigint {
    return min(ttl / 3n, ...position === 0 ? [second] : [], ...this.line.map(({ expiry }) => expiry - now))
  }

  answer(contender: Contender, asked: number, ttl: bigint, now: bigint): Acquired | Waiting {
    const fencingToken = FencingToken(contender.token)
    if (contender.holds) {
      return { _tag: "Acquired", fencingToken, permits: contender.permits < asked ? contender.permits : undefined }
    }
    const position = this.line.filter(({ holds }) => !holds).indexOf(contender)
    return { _tag: "Waiting", fencingToken, position, retryAfter: Duration.nanos(this.retryAfter(position, ttl, now)) }
  }

  /** Returns what a look shows. */
  shown(now: bigint): ReadonlyArray<Contender> {
    return this.line.filter(({ expiry }) => expiry > now)
  }
}

const makeBacking = (make: () => Plain): DistributedSemaphoreBacking => {
  const semaphores = new Map<string, Plain>()
  const of = (key: string) => semaphores.get(key) ?? semaphores.set(key, make()).get(key)!

  const atNow = <A>(f: (now: bigint) => A) =>
    Clock.clockWith((clock) => Effect.sync(() => f(clock.monotonicTimeNanosUnsafe())))
  const operate = <A>(key: string, now: bigint, operation: (semaphore: Plain) => A) => {
    of(key).expire(now)
    return operation(of(key))
  }
  const refresh = ({ fencingToken, holderId, key, permits, ttl }: RefreshRequest, now: bigint) =>
    operate(key, now, (semaphore) => {
      const own = semaphore.refresh(holderId, now + nanos(ttl), fencingToken)
      return own !== undefined && semaphore.answer(own, permits, nanos(ttl), now)
    })

  return DistributedSemaphoreBacking.of({
    tryAcquire: (key, id, ttl, limit, permits, options) =>
      atNow((now) =>
        operate(key, now, (semaphore) => {
          const request = { id, permits, limit, expiry: now + nanos(ttl) }
          const contender = semaphore.ask(request, options?.queue ?? false)
          return contender !== undefined && semaphore.answer(contender, permits, nanos(ttl), now)
        })
      ),
    release: (key, id, permits, options) =>
      atNow((now) => operate(key, now, (semaphore) => semaphore.release(id, permits, options?.fencingToken))),
    refresh: (key, holderId, ttl, limit, permits, options) =>
      atNow((now) => refresh({ key, holderId, ttl, limit, permits, ...options }, now)),
    getCount: (key) =>
      atNow((now) => of(key).shown(now).reduce((sum, { holds, permits }) => holds ? sum + permits : sum, 0)),
    inspect: (key) =>
      atNow((now) => {
        const describe = ({ expiry, id, permits, token }: Contender) => ({
          identifier: id,
          permits,
          fencingToken: FencingToken(token),
          remaining: Duration.nanos(expiry - now)
        })
        const shown = of(key).shown(now)
        const holders = shown.filter(({ holds }) => holds).map(describe)
        const line = shown.filter(({ holds }) => !holds).map(describe)
        return { holders, line, holderCount: holders.length, waiterCount: line.length }
      }),
    onPermitsReleased: (key) =>
      Stream.callback<void | FencingToken>((queue) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const listener = (token: bigint) => void Queue.offerUnsafe(queue, FencingToken(token))
            of(key).listeners.add(listener)
            Queue.offerUnsafe(queue, undefined)
            return listener
          }),
          (listener) => Effect.sync(() => of(key).listeners.delete(listener))
        )
      )
  })
}

const layer = (Semaphore: new() => Plain) =>
  Layer.sync(DistributedSemaphoreBacking, () => makeBacking(() => new Semaphore()))

/** The options of a suite for the backing without a fault. */
export const { options: plain } = brokenLayer("", "", layer(Plain))

/** Makes a broken backing from a semaphore that decides wrongly. */
export const wrong = (meant: string, fault: string, Wrong: new() => Plain): Broken =>
  brokenLayer(meant, fault, layer(Wrong))
