/** How often each kind of event and each state of the core has come up. */

export class Coverage {
  readonly counts = new Map<string, number>()

  count(kind: string, times = 1): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + times)
  }

  add(other: Coverage): void {
    for (const [kind, times] of other.counts) this.count(kind, times)
  }

  /** Returns what should have come up, but did not. */
  missing(): ReadonlyArray<string> {
    return expected.filter((kind) => !this.counts.has(kind))
  }

  print(): string {
    return Array.from(this.counts).toSorted(([a], [b]) => a < b ? -1 : 1)
      .map(([kind, times]) => `${String(times).padStart(10)}  ${kind}`).join("\n")
  }
}

/** Any thousand runs should see each of these. */
const expected: ReadonlyArray<string> = [
  "core: asks anew after its place was lost",
  "core: gives up a refresh",
  "core: gives up a refreshAll",
  "core: gives up a release",
  "core: gives up a tryAcquire",
  "core: goes on with a hold",
  "core: hears of a grant before the answer, or when it has gone",
  "core: holds after a notification",
  "core: holds by a refresh",
  "core: holds by a tryAcquire",
  "core: is told that a refresh failed",
  "core: is told that a refreshAll failed",
  "core: is told that a release failed",
  "core: is told that a tryAcquire failed",
  "core: refreshes together",
  "core: releases without a token, because no answer ever came",
  "core: takes over an identifier in use",
  "core: waits for an identifier in use",
  "end: LockLostError revoked",
  "end: LockLostError unreachable",
  "end: LockNotAcquiredError",
  "end: SemaphoreBackingError",
  "end: defect of the driver",
  "end: defect of the policy",
  "end: defect of the work",
  "end: failure of the work",
  "end: interrupted while it asks",
  "end: interrupted while it holds",
  "end: it would wait for itself",
  "end: success while it asks",
  "end: success while it holds",
  "fate: defect after its effect",
  "fate: defect before its effect",
  "fate: does not answer an interruption",
  "fate: doubled",
  "fate: interrupted after its effect",
  "fate: interrupted before its effect",
  "fate: no answer",
  "fate: no answer after its effect",
  "fate: refused",
  "fate: refused after its effect",
  "fate: refused before its effect",
  "fate: request lost",
  "fate: slow",
  "late: an acquire that came too late had no effect",
  "late: getCount landed after it was given up",
  "late: inspect landed after it was given up",
  "late: refresh landed after it was given up",
  "late: release landed after it was given up",
  "late: tryAcquire landed after it was given up",
  "notification: heard",
  "notification: late",
  "notification: lost",
  "request: getCount",
  "request: inspect",
  "request: refresh",
  "request: refreshAll",
  "request: release",
  "request: tryAcquire",
  "store: a hold is expired",
  "store: a hold is forgotten",
  "store: a hold is given up",
  "store: a place is expired",
  "store: a place is forgotten",
  "store: a place is given up",
  "subscription: falls",
  "subscription: stands",
  "trouble: cut",
  "trouble: die",
  "trouble: dispose",
  "trouble: drift",
  "trouble: forget",
  "trouble: freeze",
  "trouble: jump",
  "trouble: leap",
  "trouble: pause",
  "trouble: restart",
  "trouble: revoke",
  "trouble: shard",
  "trouble: suspend",
  "trouble: unsubscribe",
  "user: interrupted",
  "user: resumes",
  "user: take",
  "user: take, nested",
  "user: takeLease",
  "user: takeLease, nested",
  "user: tryTake",
  "user: tryTake, nested",
  "user: withPermits",
  "user: withPermits, nested",
  "user: withPermitsIfAvailable",
  "user: withPermitsIfAvailable, nested"
]
