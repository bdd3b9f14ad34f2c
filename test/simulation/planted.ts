/** Faults to plant in copies of the core: the simulation must find each. */
import type { Patch } from "./core.ts"

export interface Planted {
  readonly fault: string
  /** Found it last. */
  readonly seed: string
  readonly patches: ReadonlyArray<Patch>
}

const planted = (seed: number, fault: string, file: string, find: string, replace: string): Planted => ({
  fault,
  seed: String(seed),
  patches: [{ file: `internal/${file}`, find, replace }]
})

export const faults: ReadonlyArray<Planted> = [
  planted(
    0,
    "forgets to settle what is under way before it releases",
    "requests.ts",
    "const underWay = renewing === undefined ? Array.from(late) : [...late, renewing]",
    "contender.late?.clear()\n  void [late, renewing]\n  const underWay: ReadonlyArray<Fiber.Fiber<unknown, unknown>> = []"
  ),
  planted(
    0,
    "counts a lease from the reply",
    "requests.ts",
    "        contender.renewed = sent\n",
    "        void sent; contender.renewed = contender.sent = keeper.now()\n"
  ),
  planted(
    0,
    "refreshes after the release",
    "requests.ts",
    "  keeper.drop(contender)\n  name.giveBack()",
    "  name.giveBack()"
  ),
  planted(
    0,
    "releases without a token",
    "requests.ts",
    "keeper.backing.release(config.key, identifier, permits, { fencingToken: token })",
    "keeper.backing.release(config.key, identifier, permits, { fencingToken: token && undefined })"
  ),
  planted(
    0,
    "believes a grant of an earlier place",
    "contender.ts",
    "    if (this.isStale()) return this.look()\n",
    ""
  ),
  planted(
    0,
    "loses a grant that comes before the wait begins",
    "subscriptions.ts",
    "if (token !== undefined && subscription.early.delete(token)) waiter.grant()\n  else if",
    "if"
  ),
  planted(
    0,
    "leaves its place in line behind when it is interrupted",
    "requests.ts",
    "const fiber = keeper.run(mayHave && name.isOwn ?",
    "const fiber = keeper.run(mayHave && name.isOwn && contender.deadline < Number.POSITIVE_INFINITY ?"
  ),
  planted(
    0,
    "lets the failure of a batch end its other entries",
    "keeper.ts",
    "          else contender.failed(Exit.failCause(exit.cause))",
    "          else if (group.length > 1) contender.runOut()\n          else contender.failed(Exit.failCause(exit.cause))"
  ),
  planted(
    0,
    "misses a deadline while a refresh hangs",
    "keeper.ts",
    "if (contender.deadline <= now) contender.runOut()",
    "if (contender.deadline <= now && contender.renewing === undefined) contender.runOut()"
  ),
  planted(
    0,
    "waits at close for a store that is dead",
    "requests.ts",
    "const alarm = contender.keeper.setAlarm(patienceMillis, done)",
    "const alarm = contender.keeper.setAlarm(patienceMillis * 100, done)"
  ),
  planted(
    0,
    "does not tell the first holder that the second one, which took its hold over, has given it back",
    "names.ts",
    "if (this.isOwn) this.sharing?.forEach((use) => use !== this && use.lost())",
    ""
  ),
  planted(
    0,
    "lets an identifier be used again while its release is under way",
    "requests.ts",
    "  fiber.addObserver(() => contender.leaveName())",
    "  name.leave()"
  ),
  planted(
    0,
    "takes a refused refresh of its place for a question that is still open",
    "contender.ts",
    "if (answer === false && !this.asksAgain) {",
    "if (answer === false && this.onTurn === undefined) {"
  ),
  planted(
    0,
    "trusts a monotonic clock that stood still",
    "time.ts",
    "return millis + suspended",
    "return millis"
  ),
  planted(
    0,
    "believes an answer that comes when its lease is over",
    "requests.ts",
    "isGranted(answer) && contender.isStale()",
    "isGranted(answer) && false"
  ),
  planted(
    0,
    "hears nothing that happens while its subscription is down",
    "subscriptions.ts",
    "      for (const waiter of waiters.values()) waiter.look()\n",
    ""
  ),
  planted(
    0,
    "forgets to look again after a signal that came while it asked",
    "contender.ts",
    "if (this.renewing !== undefined) this.lookAgain = true",
    "if (this.renewing !== undefined) return"
  ),
  planted(
    0,
    "keeps the process awake after an end that was waited for",
    "requests.ts",
    "        sleepAgain()\n        unsubscribe()",
    "        unsubscribe()"
  ),
  planted(
    0,
    "tells only the last but one of several holders that the hold was given back",
    "names.ts",
    "if (from !== undefined) this.sharing = (from.sharing ??= new Set([from])).add(this)",
    "if (from !== undefined) this.sharing = new Set([from, this])"
  ),
  planted(
    0,
    "lets an identifier be used again when its release has failed",
    "requests.ts",
    "  fiber.addObserver(() => contender.leaveName())",
    "  fiber.addObserver(() => name.leave())"
  ),
  planted(
    0,
    "waits for a timer that stood still with the machine",
    "keeper.ts",
    "if (this.sleep?.until === first && now < first + lateMillis) return",
    "if (this.sleep?.until === first) return"
  )
]
