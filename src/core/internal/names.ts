/**
 * The identifiers that acquisitions through one layer use.
 *
 * To the store, two acquisitions under one identifier are one holder: the release of the first would free the permits of the
 * second. So the second waits until the first has been given back, unless it takes the hold over.
 *
 * A release that nobody has confirmed may come late, even when the lease should be over. So its token is remembered: whoever gets
 * the same one from the store asks for another.
 */
import * as Effect from "effect/Effect"
import type { DistributedSemaphoreBacking, FencingToken } from "../Backing.ts"
import { stayAwake } from "./background.ts"
import { shield } from "./shield.ts"

interface Names {
  readonly uses: Map<string, Name>
  readonly unconfirmed: Map<string, FencingToken>
}

const namesOf = new WeakMap<DistributedSemaphoreBacking, Names>()

/** The most releases that are remembered because nobody has confirmed them. */
const mostUnconfirmed = 1000

/** The use of an identifier by one acquisition. */
export class Name {
  private readonly uses: Names["uses"]
  private readonly unconfirmed: Names["unconfirmed"]
  private readonly name: string
  private readonly lost: () => void
  /** All uses that share the hold, if one has taken it over from another. */
  private sharing: Set<Name> | undefined
  private givingBack = false
  /** Acquisitions that wait for the end of this use. */
  private waiting: Set<() => void> | undefined

  /** `lost` is called when another acquisition, which has taken the hold over, gives it back. */
  constructor(backing: DistributedSemaphoreBacking, key: string, identifier: string, lost: () => void) {
    const names = namesOf.get(backing) ?? { uses: new Map(), unconfirmed: new Map() }
    namesOf.set(backing, names)
    this.uses = names.uses
    this.unconfirmed = names.unconfirmed
    this.name = `${key.length}:${key}${identifier}`
    this.lost = lost
  }

  /** The other acquisition that uses the name. */
  get other(): Name | undefined {
    const use = this.uses.get(this.name)
    return use === this ? undefined : use
  }

  /** Whether this acquisition uses the name: if not, the hold is not its own to release. */
  get isOwn(): boolean {
    return this.uses.get(this.name) === this
  }

  /** Waits until no other acquisition uses the name, then uses it. */
  claim(): Effect.Effect<void> {
    return Effect.suspend(() => this.claimIfUnused() ? Effect.void : Effect.andThen(this.other!.end, this.claim()))
  }

  /** Uses the name unless another acquisition does. */
  claimIfUnused(): boolean {
    if (this.other !== undefined) return false
    this.uses.set(this.name, this)
    return true
  }

  /** Waits until no hold of this name is being given back. */
  givenBack(): Effect.Effect<void> {
    return Effect.suspend(() => this.other?.givingBack ? Effect.andThen(this.other.end, this.givenBack()) : Effect.void)
  }

  /** Uses the name in place of another acquisition, if that still uses it. Returns whether this succeeded. */
  takeOver(from: Name | undefined): boolean {
    if (this.other !== from || from?.givingBack) return false
    this.uses.set(this.name, this)
    if (from !== undefined) this.sharing = (from.sharing ??= new Set([from])).add(this)
    // Those that wait for the other acquisition must wait for this one now.
    from?.wake()
    return true
  }

  giveBack(): void {
    this.givingBack = true
    if (this.isOwn) this.sharing?.forEach((use) => use !== this && use.lost())
    else this.sharing?.delete(this)
  }

  /** Leaves the name to another use that shares the hold, if there is one. `unconfirmed` is the token of a hold or place. */
  leave(unconfirmed?: FencingToken): void {
    this.sharing?.delete(this)
    const heir = this.sharing?.values().next().value
    if (this.isOwn && heir !== undefined) {
      this.uses.set(this.name, heir)
    } else if (this.isOwn) {
      this.uses.delete(this.name)
      if (unconfirmed !== undefined) this.remember(unconfirmed)
    }
    this.wake()
  }

  /** Whether a release of this token may still come. */
  isUnconfirmed(token: FencingToken | undefined): boolean {
    return token !== undefined && this.unconfirmed.get(this.name) === token
  }

  private remember(token: FencingToken): void {
    this.unconfirmed.set(this.name, token)
    const [oldest] = this.unconfirmed.keys()
    if (this.unconfirmed.size > mostUnconfirmed) this.unconfirmed.delete(oldest!)
  }

  private wake(): void {
    this.waiting?.forEach(shield)
  }

  private get end(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      // The fiber may have yielded since it saw this use.
      if (!this.isOwn) return resume(Effect.void)
      const waiting = this.waiting ??= new Set()
      const sleepAgain = stayAwake()
      const stop = () => {
        waiting.delete(wake)
        sleepAgain()
      }
      const wake = () => {
        stop()
        resume(Effect.void)
      }
      waiting.add(wake)
      return Effect.sync(stop)
    })
  }
}
