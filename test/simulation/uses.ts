/** What the checker knows of each acquisition by a user. */
import type { Fiber } from "effect"
import type { Lease } from "../../src/core/Lease.ts"
import type { UserPlan } from "./plan.ts"
import type { Process } from "./process.ts"

/** One acquisition by a user, from its first request to its end. */
export interface Use {
  readonly user: UserPlan
  readonly process: Process
  readonly key: string
  readonly id: string
  readonly permits: number
  readonly ttl: number
  /** Whether other uses may have had or may get the same hold. */
  readonly shared: boolean
  readonly external: boolean
  /** The use under whose lease it works. */
  readonly outer: Use | undefined
  /** How many leases it works under, including its own. */
  readonly depth: number
  phase: "asks" | "holds" | "ended"
  lease: Lease["Service"] | undefined
  token: bigint | undefined
  /** The fiber of its work, if that would be interrupted when the lease is lost. */
  work: Fiber.Fiber<unknown, unknown> | undefined
  interrupted: boolean
  /** From when on it may end by itself, because its time limit is over. */
  readonly mayEndFrom: number
  /** When it must have ended, because nothing is left to do. */
  mustEndBy: number
  /** The place that it knows of, how many were ahead, and when it asked for it or renewed it last. */
  place: bigint | undefined
  position: number
  renewed: number
  granted: number
  /** Whether the store has forgotten its hold or place. */
  forgotten: boolean
  /** When it must have asked again, because it was notified. */
  mustAskBy: number
  /** The operation that was answered last, and whether a notification came after it. */
  answeredBy: string
  heard: boolean
  /** Whether its release has been sent. */
  givesBack: boolean
}

type Given = Pick<Use, "key" | "id" | "permits" | "shared" | "external" | "outer" | "interrupted" | "mayEndFrom">

/** Makes a use that has just begun. */
export const newUse = (user: UserPlan, process: Process, given: Given): Use => ({
  ...given,
  user,
  process,
  ttl: user.ttl,
  depth: (given.outer?.depth ?? 0) + 1,
  phase: "asks",
  lease: undefined,
  token: undefined,
  work: undefined,
  mustEndBy: Number.POSITIVE_INFINITY,
  place: undefined,
  position: -1,
  renewed: Number.NEGATIVE_INFINITY,
  granted: Number.POSITIVE_INFINITY,
  forgotten: false,
  mustAskBy: Number.POSITIVE_INFINITY,
  answeredBy: "",
  heard: false,
  givesBack: false
})
