/**
 * The store: the kit's model of the contract, on true time. This adds what the model leaves open: tokens,
 * notifications, and a second kind of store that has neither line nor tokens, as for 0.0.11.
 */
import { Duration } from "effect"
import type { FencingToken } from "../../src/core/Backing.ts"
import type { Answer, Contender, Operation, State } from "../../src/testing/internal/model/model.ts"
import * as Model from "../../src/testing/internal/model/model.ts"
import type { World } from "./world.ts"

/** Why a contender is gone. */
export type Gone = "expired" | "given up" | "forgotten"

/** Watches the store. */
export interface Watcher {
  readonly granted: (key: string, contender: Contender) => void
  readonly gone: (key: string, contender: Contender, why: Gone) => void
}

/** Hears the token of each grant, or `undefined` if the store has no tokens. */
export type Listener = (token: bigint | undefined) => void

export const nanos = (millis: number): bigint => BigInt(Math.round(millis * 1e6))

export class Store {
  /** Whether it keeps a line and grants. If not, it answers yes or no. */
  readonly grants: boolean
  readonly listeners = new Map<string, Set<{ readonly process: string; readonly hear: Listener }>>()
  private readonly world: World
  private readonly watcher: Watcher
  private states = new Map<string, State>()
  private lastToken = 0n
  /** The process of each waiter, by its token. */
  private readonly owners = new Map<bigint, string>()

  constructor(world: World, grants: boolean, watcher: Watcher) {
    this.world = world
    this.grants = grants
    this.watcher = watcher
  }

  get keys(): ReadonlyArray<string> {
    return Array.from(this.states.keys())
  }

  /** Lists the contenders of a key that have not expired. */
  line(key: string): ReadonlyArray<Contender> {
    const now = nanos(this.world.now)
    return this.states.get(key)?.line.filter(({ expiry }) => expiry.latest > now) ?? []
  }

  find(key: string, id: string): Contender | undefined {
    return this.line(key).find((contender) => contender.id === id)
  }

  operate(process: string, key: string, operation: Operation): Answer {
    const now = nanos(this.world.now)
    const after = (ttl: bigint) => ({ earliest: now + ttl, latest: now + ttl })
    this.expire(key, now)
    const before = this.states.get(key) ?? Model.empty
    const issued = operation._tag === "tryAcquire" ? ++this.lastToken : undefined
    if (issued !== undefined) this.owners.set(issued, process)
    const { expected, next } = Model.step(before, this.meant(operation), issued, after)
    this.change(key, before, next, "given up", "id" in operation ? operation.id : undefined)
    const fencingToken = (expected._tag === "Acquired" || expected._tag === "Waiting"
      ? expected.token._tag === "Known" ? expected.token.value : issued
      : undefined) as FencingToken
    switch (expected._tag) {
      case "Acquired":
        return this.grants ? { _tag: "Acquired", fencingToken, permits: expected.permits } : true
      case "Waiting":
        return {
          _tag: "Waiting",
          fencingToken,
          position: expected.position,
          retryAfter: this.retryAfter(next, expected.position, "ttl" in operation ? operation.ttl : 0n, now)
        }
      case "Refused":
        return false
      case "Number":
        return expected.permits
      case "State":
        return this.shown(next, now)
    }
  }

  /** Forgets keys, as in a restart, or when an operator deletes a key. Tokens go on (S3). */
  forget(keys: ReadonlyArray<string>): void {
    for (const key of keys) {
      const state = this.states.get(key)
      if (state === undefined) continue
      this.states.delete(key)
      for (const contender of state.line) this.watcher.gone(key, contender, "forgotten")
    }
  }

  private meant(operation: Operation): Operation {
    if (this.grants) return operation
    if (operation._tag === "tryAcquire") return { ...operation, queue: false }
    return "token" in operation ? { ...operation, token: undefined } : operation
  }

  private expire(key: string, now: bigint): void {
    const state = this.states.get(key)
    if (state === undefined || state.line.every(({ expiry }) => expiry.latest > now)) return
    const line = state.line.filter(({ expiry }) => expiry.latest > now)
    this.change(key, state, Model.grant({ ...state, line }), "expired", undefined)
  }

  private change(key: string, before: State, next: State, why: Gone, asker: string | undefined): void {
    if (next.line.length === 0) this.states.delete(key)
    else this.states.set(key, next)
    let freed = false
    for (const contender of before.line) {
      const after = next.line.find(({ token }) => token === contender.token)
      freed ||= contender.permits > (after?.permits ?? 0)
      if (after === undefined) this.watcher.gone(key, contender, why)
    }
    for (const contender of next.line) {
      if (!contender.holds || before.line.some(({ holds, token }) => holds && token === contender.token)) continue
      this.watcher.granted(key, contender)
      if (this.grants && contender.id !== asker) this.notify(key, contender.token)
    }
    if (!this.grants && freed) this.notify(key, undefined)
  }

  private notify(key: string, token: bigint | undefined): void {
    const owner = token === undefined ? undefined : this.owners.get(token)
    for (const { hear, process } of this.listeners.get(key) ?? []) {
      if (owner === undefined || owner === process) hear(token)
    }
  }

  /** B3: no hold or place that could be in the way expires earlier. */
  private retryAfter({ line }: State, position: number, ttl: bigint, now: bigint): Duration.Duration {
    const bounds = [
      ttl / 3n,
      ...line.map(({ expiry }) => expiry.earliest - now),
      ...position === 0 ? [nanos(1000)] : []
    ]
    return Duration.nanos(bounds.reduce((a, b) => a < b ? a : b))
  }

  private shown(state: State, now: bigint): Answer {
    const describe = ({ expiry, id, permits, token }: Contender) => ({
      identifier: id,
      permits,
      fencingToken: token as FencingToken,
      remaining: Duration.nanos(expiry.earliest - now)
    })
    const holders = Model.holdersOf(state).map(describe)
    const line = Model.waitersOf(state).map(describe)
    return { holders, line, holderCount: holders.length, waiterCount: line.length }
  }
}
