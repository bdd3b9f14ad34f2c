/** `look`: who holds permits of a key, and who waits. */
import { Command, Flag } from "effect/cli"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { ContenderState, SemaphoreState } from "../core/Backing.ts"
import * as DistributedSemaphore from "../core/DistributedSemaphore.ts"
import * as Flags from "./flags.ts"
import { print } from "./output.ts"
import { describe } from "./table.ts"

/** Makes the semaphore of a key, without retries: a command that asks once says at once if the store fails. */
export const lookAt = (key: string) => DistributedSemaphore.make(key, { backingFailureRetryPolicy: Schedule.recurs(0) })

const contenderJson = ({ fencingToken, identifier, owner, permits, remaining, since }: ContenderState) => ({
  identifier,
  permits,
  // A string, because JSON readers may lose digits of so large an integer.
  fencingToken: String(fencingToken),
  remainingMillis: Math.round(Duration.toMillis(remaining)),
  owner,
  since: since && DateTime.formatIso(since)
})

const toJson = (key: string, { holderCount, holders, line, waiterCount }: SemaphoreState): string =>
  JSON.stringify(
    { key, holderCount, waiterCount, holders: holders.map(contenderJson), line: line.map(contenderJson) },
    undefined,
    2
  )

export const look = Command.make(
  "look",
  {
    key: Flags.key,
    json: Flags.json.pipe(
      Flag.withDescription("Print JSON: the time left in milliseconds, since when as ISO 8601, tokens as strings")
    )
  },
  Effect.fnUntraced(function*({ json, key }) {
    const state = yield* Effect.flatMap(lookAt(key), ({ inspect }) => inspect)
    print(json ? toJson(key, state) : describe(key, state).join("\n"))
  })
).pipe(
  Command.withDescription("Show who holds permits of a key, and who waits, first in line first"),
  Command.withExamples([
    { command: "effect-distributed-lock look nightly-report" },
    { command: "effect-distributed-lock look nightly-report --json | jq -r '.holders[].owner'" }
  ])
)
