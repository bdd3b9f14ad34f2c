/** The plan of a run, drawn from its seed: what users ask for, and which troubles store, network and processes have. */
import type { ProcessPlan } from "./process.ts"
import { Random } from "./random.ts"

export type Asks = "withPermits" | "withPermitsIfAvailable" | "takeLease" | "take" | "tryTake"

/** A moment in the life of a user's requests, at which it may be interrupted. */
export type Moment = "sent" | "landed" | "answered" | "heard" | "working"

export type FailurePolicy = "default" | "none" | "twice" | "spaced" | "for ever" | "dies"

export type WaitingPolicy = "default" | "none" | "ends" | "spaced" | "dies"

export interface UserPlan {
  readonly name: string
  readonly process: number
  /** When it begins, in true milliseconds. */
  readonly at: number
  readonly key: string
  readonly limit: number
  readonly ttl: number
  readonly refreshInterval: number | undefined
  readonly waitingPolicy: WaitingPolicy
  readonly failurePolicy: FailurePolicy
  readonly asks: Asks
  readonly permits: number
  /** How long it works, in local milliseconds. If this is infinite, it works until the run ends. */
  readonly works: number
  readonly ends: "succeeds" | "fails" | "dies"
  /** Whose identifier it uses: its own, or that of another user of its process, or of a process that has died. */
  readonly sharesWith: string | undefined
  readonly external: boolean
  /** Whether the end of its keepAlive fiber ends a `take`. */
  readonly joins: boolean
  /** Whether it interrupts its keepAlive fiber. */
  readonly stopsKeepAlive: boolean
  readonly uuid: boolean
  readonly looks: boolean
  readonly nested: { readonly key: string; readonly limit: number; readonly permits: number } | undefined
  readonly timeout: number | undefined
  readonly interrupt: { readonly on: Moment; readonly nth: number } | { readonly after: number } | undefined
  readonly cycles: number
}

export type Trouble =
  & { readonly name: string; readonly at: number; readonly lasts: number }
  & (
    | { readonly kind: "freeze" | "forget" }
    | { readonly kind: "restart"; readonly forgets: boolean; readonly hangs: boolean }
    | { readonly kind: "shard" | "revoke"; readonly key: string }
    | { readonly kind: "pause" | "suspend" | "die" | "dispose" | "cut" | "unsubscribe"; readonly process: number }
    | { readonly kind: "jump" | "leap" | "drift"; readonly process: number; readonly by: number }
  )

/** How likely a request, or a notification, has each fate. */
export interface Network {
  readonly slow: number
  readonly lost: number
  readonly unanswered: number
  readonly refused: number
  readonly defect: number
  readonly interrupted: number
  readonly doubled: number
  /** The driver does not answer an interruption. */
  readonly deaf: number
  readonly notificationLost: number
  readonly notificationLate: number
  readonly notificationDoubled: number
  readonly notificationStray: number
}

export interface Plan {
  readonly seed: string
  readonly grants: boolean
  readonly refreshesTogether: boolean
  readonly notifies: boolean
  readonly processes: ReadonlyArray<ProcessPlan>
  readonly users: ReadonlyArray<UserPlan>
  readonly troubles: ReadonlyArray<Trouble>
  readonly network: Network
  /** When troubles end, and work without end is interrupted. */
  readonly horizon: number
}

/** Draws a plan. A run has only some of all features: those that were always there could hide the faults of others. */
export const draw = (seed: string): Plan => {
  const random = new Random(`${seed} plan`)
  const base = random.pick([300, 1000, 1000, 3000, 30_000])
  const horizon = base * random.between(2, 6)
  const calm = random.chance(0.25)
  const processes = Array.from({ length: 1 + random.int(3) }, (_, index) => drawProcess(random, index))
  const keys = random.pick([["k"], ["k"], ["k", "j"], ["k", "j", "i"]])
  const limits = new Map(keys.map((key) => [key, random.pick([1, 1, 2, 3, 5])]))
  const context = { random, base, horizon, processes: processes.length, keys, limits, features: drawFeatures(random) }
  const users: Array<UserPlan> = []
  for (let count = 3 + random.int(10); users.length < count;) users.push(drawUser(context, users))
  const rate = () => calm || !random.chance(0.3) ? 0 : random.pick([0.02, 0.1, 0.3])
  return {
    seed,
    grants: !random.chance(0.15),
    refreshesTogether: !random.chance(0.2),
    notifies: !random.chance(0.1),
    processes,
    users,
    troubles: calm ? [] : drawTroubles(context),
    network: {
      slow: rate(),
      lost: rate(),
      unanswered: rate(),
      refused: rate(),
      defect: rate() / 4,
      interrupted: rate() / 2,
      doubled: rate(),
      deaf: rate(),
      notificationLost: rate() * 2,
      notificationLate: rate() * 2,
      notificationDoubled: rate(),
      notificationStray: rate()
    },
    horizon
  }
}

interface Context {
  readonly random: Random
  readonly base: number
  readonly horizon: number
  readonly processes: number
  readonly keys: ReadonlyArray<string>
  readonly limits: Map<string, number>
  readonly features: ReturnType<typeof drawFeatures>
}

const drawFeatures = (random: Random) => {
  const has = () => random.chance(0.4)
  return {
    interrupts: random.chance(0.6),
    times: has(),
    shares: has(),
    nests: has(),
    differs: has(),
    policies: has(),
    stops: random.chance(0.15),
    cycles: has()
  }
}

const drawProcess = (random: Random, index: number): ProcessPlan => ({
  name: "ABC"[index]!,
  rate: random.pick([1, 1, random.between(0.985, 1.015)]),
  start: random.between(0, 1e7),
  wall: random.pick([0, 1.8e12, 1.8e12 + random.between(-1e8, 1e8)]),
  opsBeforeYield: random.pick([2048, 2048, 2048, 3 + random.int(30)])
})

const drawUser = (context: Context, earlier: ReadonlyArray<UserPlan>): UserPlan => {
  const { base, features, horizon, keys, limits, processes, random } = context
  const key = random.pick(keys)
  const limit = features.differs && random.chance(0.3) ? 1 + random.int(5) : limits.get(key)!
  const permits = random.chance(0.6) ? 1 : 1 + random.int(limit)
  const ttl = base * (features.differs ? random.pick([1, 1, 0.7, 2]) : 1)
  const other = features.shares && earlier.length > 0 && random.chance(0.5) ? random.pick(earlier) : undefined
  const external = other !== undefined && random.chance(0.5)
  const asks = random.pick(["withPermits", "withPermits", "withPermitsIfAvailable", "takeLease", "take", "tryTake"])
  return {
    name: `u${earlier.length}`,
    process: random.int(processes),
    at: random.chance(0.3) ? random.pick([0, 0, 10]) : random.between(0, horizon * 0.8),
    key: other?.key ?? key,
    limit: other?.limit ?? limit,
    // A user that resumes a hold must use its ttl: the refreshes of one would shorten the lease of the other.
    ttl: other?.ttl ?? ttl,
    refreshInterval: other === undefined && features.differs && random.chance(0.3)
      ? ttl * random.pick([0.1, 0.5, 0.9])
      : undefined,
    waitingPolicy: features.policies ? random.pick(["default", "none", "ends", "spaced", "dies"]) : "default",
    failurePolicy: features.policies
      ? random.pick(["default", "none", "twice", "spaced", "for ever", "dies"])
      : "default",
    asks,
    permits: other === undefined
      ? permits
      : external || random.chance(0.5)
      ? other.permits
      : 1 + random.int(other.limit),
    works: random.chance(0.15) ? Number.POSITIVE_INFINITY : random.logBetween(base / 300, base * 3),
    ends: random.pick(["succeeds", "succeeds", "succeeds", "fails", "dies"]),
    sharesWith: other === undefined ? undefined : other.sharesWith ?? other.name,
    external,
    joins: random.chance(0.5),
    stopsKeepAlive: features.stops && random.chance(0.3),
    uuid: random.chance(0.5),
    looks: random.chance(0.1),
    nested: features.nests && random.chance(0.4)
      ? drawNested(random, random.pick(keys), limits)
      : undefined,
    timeout: features.times && random.chance(0.4) ? random.logBetween(1, base * 2) : undefined,
    interrupt: !features.interrupts || !random.chance(0.5)
      ? undefined
      : random.chance(0.5)
      ? { on: random.pick(["sent", "landed", "answered", "heard", "working"]), nth: random.pick([1, 1, 2, 3, 5]) }
      : { after: random.logBetween(0.1, base * 3) },
    cycles: features.cycles ? 1 + random.int(4) : 1
  }
}

const drawNested = (random: Random, key: string, limits: Map<string, number>) => {
  const limit = limits.get(key)!
  return { key, limit, permits: 1 + random.int(limit) }
}

const drawTroubles = ({ base, horizon, keys, processes, random }: Context): ReadonlyArray<Trouble> => {
  const kinds = ([
    "freeze",
    "forget",
    "restart",
    "shard",
    "revoke",
    "pause",
    "suspend",
    "die",
    "dispose",
    "cut",
    "unsubscribe",
    "jump",
    "leap",
    "drift"
  ] as const).filter(() => random.chance(0.25))
  if (kinds.length === 0) return []
  return Array.from({ length: 1 + random.int(5) }, (_, index): Trouble => {
    const kind = random.pick(kinds)
    const common = { name: `t${index}`, at: random.between(0, horizon), lasts: random.logBetween(base / 30, base * 2) }
    const process = random.int(processes)
    switch (kind) {
      case "freeze":
      case "forget":
        return { ...common, kind }
      case "restart":
        return { ...common, kind, forgets: random.chance(0.3), hangs: random.chance(0.3) }
      case "shard":
      case "revoke":
        return { ...common, kind, key: random.pick(keys) }
      // The core notices no suspension below its tolerance. So none is that short, even if the end of troubles cuts it.
      case "suspend":
        return {
          ...common,
          kind,
          process,
          lasts: Math.max(common.lasts, 100),
          at: Math.max(0, Math.min(common.at, horizon - 100))
        }
      case "jump":
        return { ...common, kind, process, by: random.pick([-1, 1]) * random.logBetween(10, 1e7) }
      case "leap":
        return { ...common, kind, process, by: random.logBetween(1, base * 3) }
      case "drift":
        return { ...common, kind, process, by: random.between(0.985, 1.015) }
      default:
        return { ...common, kind, process }
    }
  })
}
