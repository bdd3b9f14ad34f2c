/** Judges how an acquisition ended: only documented errors, and only with a reason. */
import { Exit } from "effect"
import type { Contender } from "../../src/testing/internal/model/model.ts"
import type { Coverage } from "./coverage.ts"
import type { Use } from "./uses.ts"

export interface Evidence {
  readonly coverage: Coverage
  /** Whether something went wrong with one of its requests, or with its process. */
  readonly isTouched: boolean
  /** What the store has of it. */
  readonly has: Contender | undefined
}

/** Returns why an end is wrong, or `undefined` if it is not. */
export const judge = (
  use: Use,
  exit: Exit.Exit<unknown, unknown>,
  phase: Use["phase"],
  evidence: Evidence
): string | undefined => {
  const { coverage } = evidence
  if (Exit.isSuccess(exit)) return void coverage.count(`end: success while it ${phase}`)
  for (const reason of exit.cause.reasons) {
    const wrong = reason._tag === "Die"
      ? judgeDefect(use, reason.defect, evidence)
      : reason._tag === "Fail"
      ? judgeError(use, reason.error, evidence)
      : mayBeInterrupted(use)
      ? undefined
      : `${use.id} is interrupted, but nobody interrupted it`
    if (reason._tag === "Interrupt") coverage.count(`end: interrupted while it ${phase}`)
    if (wrong !== undefined) return wrong
  }
}

/** A user that joins a fiber that it has interrupted is interrupted, too. */
const mayBeInterrupted = ({ interrupted, outer, user }: Use): boolean =>
  interrupted || user.timeout !== undefined || outer !== undefined || user.stopsKeepAlive && user.joins

const judgeDefect = (use: Use, defect: unknown, { coverage }: Evidence): string | undefined => {
  const message = defect instanceof Error ? defect.message : String(defect)
  const known = ["defect of the work", "defect of the driver", "defect of the policy"].find((one) => one === message)
    ?? (use.user.nested && message.includes("it would wait for itself") ? "it would wait for itself" : undefined)
  if (known === undefined) return `${use.id} dies: ${defect instanceof Error ? defect.stack : message}`
  coverage.count(`end: ${known}`)
}

const judgeError = (use: Use, error: unknown, { coverage, has, isTouched }: Evidence): string | undefined => {
  const { id, key, user } = use
  const tag = (error as { readonly _tag?: string })._tag ?? String(error)
  const { reason } = error as { readonly reason?: string }
  coverage.count(`end: ${tag}${reason === undefined ? "" : ` ${reason}`}`)
  switch (tag) {
    case "failure of the work":
      return
    case "LockLostError": {
      if (!isTouched && !user.stopsKeepAlive) return `${key}/${id} lost its hold without any trouble`
      const hasIt = has?.holds && has.token === use.token && use.token !== undefined
      if (reason !== "unreachable" && !use.shared && hasIt) {
        return `${key}/${id} lost its hold as ${reason}, but the store has it`
      }
      return
    }
    case "LockNotAcquiredError":
      if (use.external || user.waitingPolicy === "none" || user.waitingPolicy === "ends") return
      return `${key}/${id} was not acquired, though its policy does not end`
    case "SemaphoreBackingError":
      // A failure of a batch is a failure of each of its holds, after which a policy may end.
      if (isTouched || ["none", "twice", "dies"].includes(user.failurePolicy)) return
      return `${key}/${id} has an error of the store, which had none: ${(error as Error).message}`
    default:
      return `${key}/${id} fails with ${tag}`
  }
}
