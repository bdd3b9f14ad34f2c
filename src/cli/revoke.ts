/** `revoke`: takes a hold, or a place in line, away. */
import { Argument, Command } from "effect/cli"
import * as Effect from "effect/Effect"
import type { ContenderState } from "../core/Backing.ts"
import { exit } from "./exits.ts"
import * as Flags from "./flags.ts"
import { lookAt } from "./look.ts"
import { print, visible } from "./output.ts"
import { count } from "./table.ts"

const ownerOf = ({ owner }: ContenderState): string => owner === undefined ? "" : `, owner ${visible(owner)}`

export const revoke = Command.make(
  "revoke",
  {
    key: Flags.key,
    identifier: Argument.String("identifier").pipe(
      Argument.filter((identifier) => identifier !== "", () => "an identifier that is not empty"),
      Argument.withDescription("The holder or waiter, as `look` shows it")
    )
  },
  Effect.fnUntraced(function*({ identifier, key }) {
    const semaphore = yield* lookAt(key)
    const { holderCount, holders, line, waiterCount } = yield* semaphore.inspect
    const freed = yield* semaphore.revoke(identifier)
    const holder = holders.find((contender) => contender.identifier === identifier)
    const waiter = line.find((contender) => contender.identifier === identifier)
    const names = `"${visible(identifier)}" of "${visible(key)}"`
    if (freed > 0) {
      const details = holder === undefined ? "" : ` (token ${holder.fencingToken}${ownerOf(holder)})`
      return print(`Revoked ${count(freed, "permit")} of the holder ${names}${details}`)
    }
    if (waiter !== undefined) return print(`Revoked the place in line of ${names}${ownerOf(waiter)}`)
    const allListed = holderCount === holders.length && waiterCount === line.length
    if (allListed) return yield* exit("nobody", `There is no holder and no waiter ${names}`)
    print(`Revoked the place in line of ${names}, if there was one`)
  })
).pipe(
  Command.withDescription(
    `Take the permits of a holder, or the place of a waiter, away. The next in line get the permits at once. The
  holder learns of it at once, or at its next refresh if the store does not notify. Until its work has stopped, there
  are two holders: use this for a holder that hangs, and guard by the fencing token what must not be written twice.

  The exit code is 1 if there is no such holder or waiter.`
  ),
  Command.withShortDescription("Take the permits or the place of somebody away")
)
