/** Faults to plant in copies of the core: the simulation must find each. */
import type { Patch } from "./core.ts"

export interface Planted {
  readonly fault: string
  /** The seed that found it last. */
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
    165,
    "does not settle requests under way before it releases",
    "requests.ts",
    "const underWay = renewing === undefined ? Array.from(late) : [...late, renewing]",
    "contender.late?.clear()\n  void [late, renewing]\n  const underWay: ReadonlyArray<Fiber.Fiber<unknown, unknown>> = []"
  ),
  planted(
    168,
    "counts a lease from the reply",
    "requests.ts",
    "        contender.renewed = sent\n",
    "        void sent; contender.renewed = contender.sent = keeper.now()\n"
  ),
  planted(
    4,
    "refreshes after the release",
    "requests.ts",
    "  keeper.drop(contender)\n  name.giveBack()",
    "  name.giveBack()"
  ),
  planted(
    17_767,
    "releases without a token",
    "requests.ts",
    "backing.release(key, identifier, permits, { fencingToken: token })",
    "backing.release(key, identifier, permits, { fencingToken: token && undefined })"
  ),
  planted(
    33,
    "believes a grant of an earlier place",
    "subscriptions.ts",
    "const waiter = places.get(granted)\n",
    "const waiter = places.get(granted) ?? waiters.values().next().value\n"
  ),
  planted(
    217,
    "loses a grant that comes before the wait begins",
    "subscriptions.ts",
    "if (token !== undefined && early.delete(token)) waiter.grant()\n  else if",
    "if"
  ),
  planted(
    5,
    "leaves its place in line behind when it is interrupted",
    "requests.ts",
    "if (!mayHave || !name.isOwn ||",
    "if (!mayHave || !name.isOwn || contender.deadline === Number.POSITIVE_INFINITY ||"
  ),
  planted(
    621,
    "lets the failure of a batch end its other entries",
    "keeper.ts",
    "        if (parts.length > 1) return parts.forEach((part) => this.renewTogether(part))",
    "        if (parts.length > 1) return group.forEach((contender) => contender.runOut())"
  ),
  planted(
    45,
    "misses a deadline while a refresh hangs",
    "keeper.ts",
    "if (contender.deadline <= now) contender.runOut()",
    "if (contender.deadline <= now && contender.renewing === undefined) contender.runOut()"
  ),
  planted(
    3,
    "waits at close for a store that is dead",
    "requests.ts",
    "const alarm = contender.keeper.setAlarm(patienceMillis, () => {",
    "const alarm = contender.keeper.setAlarm(patienceMillis * 100, () => {"
  ),
  planted(
    9,
    "does not end the first acquisition when the second one, which took its hold over, releases it",
    "names.ts",
    "if (this.isOwn) this.sharing?.forEach((use) => use !== this && use.lost())",
    "if (this.isOwn) this.wake()"
  ),
  planted(
    0,
    "lets an identifier be used again while its release is under way",
    "requests.ts",
    "  const end = () => {\n    contender.leaveName()",
    "  name.leave()\n  const end = () => {"
  ),
  planted(
    30,
    "takes a refused refresh of its place for a request that is still open",
    "contender.ts",
    "if (answer === false && !this.asksAgain) {",
    "if (answer === false && this.onTurn === undefined) {"
  ),
  planted(
    77,
    "trusts a monotonic clock that stood still",
    "time.ts",
    "return millis + time.missed",
    "return millis"
  ),
  planted(
    21,
    "hears nothing that happens while its subscription is down",
    "subscriptions.ts",
    "      for (const waiter of waiters) waiter.look()\n",
    ""
  ),
  planted(
    2,
    "keeps the process awake after an end that was waited for",
    "requests.ts",
    "        sleepAgain()\n        unsubscribe()",
    "        unsubscribe()"
  ),
  planted(
    1400,
    "ends only the last but one of several acquisitions when their hold is released",
    "names.ts",
    "if (from !== undefined) this.sharing = (from.sharing ??= new Set([from])).add(this)",
    "if (from !== undefined) this.sharing = new Set([from, this])"
  ),
  planted(
    1687,
    "lets an identifier be used again when its release has failed",
    "requests.ts",
    "  const end = () => {\n    contender.leaveName()",
    "  const end = () => {\n    name.leave()"
  ),
  planted(
    3560,
    "waits for a timer that stood still with the machine",
    "keeper.ts",
    "sleep.until === first && !isLate)) return",
    "sleep.until === first)) return"
  )
]
