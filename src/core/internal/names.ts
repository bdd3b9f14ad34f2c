/**
 * The identifiers that acquisitions of this process use.
 *
 * To the store, two acquisitions under one identifier are one holder: the release of the first would free the permits of the
 * second. So the second waits until the first has been given back, unless it takes the hold over.
 */
import { Effect, Latch } from "effect"
import type { DistributedSemaphoreBacking } from "../Backing.ts"

export interface Name {
  /** Waits until no other acquisition uses the name, then uses it. */
  readonly claim: Effect.Effect<void>
  /** Uses the name unless another acquisition does. Waits while the earlier hold is being given back. */
  readonly claimIfUnused: Effect.Effect<boolean>
  /** Waits until no hold of this name is being given back. */
  readonly givenBack: Effect.Effect<void>
  /** Uses the name in place of any other acquisition. `false` if the hold is being given back. */
  readonly takeOver: () => boolean
  /** Whether this acquisition uses the name: if not, its hold is not its own to release. */
  readonly isOwn: () => boolean
  /** From now on the hold is being given back. */
  readonly giveBack: () => void
  /** Ends the use. */
  readonly leave: () => void
}

interface Use {
  givingBack: boolean
  readonly over: Latch.Latch
}

const usesOf = new WeakMap<DistributedSemaphoreBacking, Map<string, Use>>()

export const make = (backing: DistributedSemaphoreBacking, key: string, identifier: string): Name => {
  const uses = usesOf.get(backing) ?? new Map<string, Use>()
  usesOf.set(backing, uses)
  const name = JSON.stringify([key, identifier])
  const own: Use = { givingBack: false, over: Latch.makeUnsafe(false) }
  const other = () => {
    const use = uses.get(name)
    return use === own ? undefined : use
  }

  const claim: Effect.Effect<void> = Effect.suspend(() => {
    const use = other()
    return use === undefined
      ? Effect.sync(() => void uses.set(name, own))
      : Effect.andThen(awaitAlive(use.over), claim)
  })

  const givenBack: Effect.Effect<void> = Effect.suspend(() => {
    const use = other()
    return use?.givingBack ? Effect.andThen(awaitAlive(use.over), givenBack) : Effect.void
  })

  return {
    claim,
    claimIfUnused: Effect.andThen(
      givenBack,
      Effect.suspend(() => other() === undefined ? Effect.as(claim, true) : Effect.succeed(false))
    ),
    givenBack,
    takeOver: () => {
      const use = other()
      if (use?.givingBack) return false
      uses.set(name, own)
      // Whoever waits for the other acquisition waits for this one now.
      use?.over.openUnsafe()
      return true
    },
    isOwn: () => uses.get(name) === own,
    giveBack: () => void (own.givingBack = true),
    leave: () => {
      if (uses.get(name) === own) uses.delete(name)
      own.over.openUnsafe()
    }
  }
}

/** Keeps the process alive while it waits: what is given back in the background does not. */
const awaitAlive = (latch: Latch.Latch): Effect.Effect<void> =>
  Effect.asVoid(Effect.timeoutOption(latch.await, "1 hour"))
