/** `run`: holds permits while a command runs. */
import { Argument, CliError, Command, Flag } from "effect/cli"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as DistributedSemaphore from "../core/DistributedSemaphore.ts"
import { Lease } from "../core/Lease.ts"
import * as Supervised from "./command.ts"
import { Exit, exit } from "./exits.ts"
import * as Flags from "./flags.ts"
import { lookAt } from "./look.ts"

const flags = {
  key: Flag.String("key").pipe(
    Flag.withAlias("k"),
    Flag.filter((key) => key !== "", () => "a key that is not empty"),
    Flag.withMetavar("KEY"),
    Flag.withDescription("The key of the semaphore")
  ),
  limit: Flag.Int("limit").pipe(
    Flag.withDefault(1),
    Flag.withMetavar("N"),
    Flag.withDescription("How many permits there are in all; 1, a mutex, by default")
  ),
  permits: Flag.Int("permits").pipe(
    Flag.withDefault(1),
    Flag.withMetavar("P"),
    Flag.withDescription("How many permits the command needs; 1 by default")
  ),
  ttl: Flags.duration("ttl").pipe(
    Flag.withDefault(Duration.seconds(30)),
    Flag.withDescription("After how long the permits of a crashed machine are free again; 30s by default")
  ),
  timeout: Flags.duration("timeout").pipe(
    Flag.optional,
    Flag.withDescription("How long to wait for the permits; forever by default")
  ),
  noWait: Flag.Boolean("no-wait").pipe(
    Flag.withDefault(false),
    Flag.withoutNegation,
    Flag.withDescription("Do not wait for permits that are not free")
  ),
  grace: Flags.duration("grace").pipe(
    Flag.withDefault(Duration.seconds(5)),
    Flag.withDescription(
      "How long the command may take to end after SIGTERM, before SIGKILL, if its permits are lost; 5s by default"
    )
  ),
  command: Argument.String("command").pipe(
    Argument.variadic({ min: 1 }),
    Argument.withDescription("The command and its arguments, after --")
  )
}

export const run = Command.make(
  "run",
  flags,
  Effect.fnUntraced(function*({ command, grace, key, limit, noWait, permits, timeout, ttl }) {
    if (process.platform === "win32") {
      return yield* exit("misuse", "run needs process groups, which Windows does not have")
    }

    // If the store can't be reached at all, this fails at once instead of waiting.
    yield* Effect.flatMap(lookAt(key), ({ currentCount }) => currentCount)
    const semaphore = yield* DistributedSemaphore.make(key, { limit, ttl })
    let acquired = false
    const work = Effect.flatMap(Lease, (lease) => {
      acquired = true
      const environment = {
        LOCK_KEY: key,
        LOCK_IDENTIFIER: lease.identifier,
        ...Option.match(lease.fencingToken, {
          onNone: () => ({}),
          onSome: (token) => ({ FENCING_TOKEN: String(token) })
        })
      }
      return Supervised.run(lease, { command, environment, grace })
    })
    const tooLate = Effect.suspend(() =>
      acquired ? Effect.never : exit("timedOut", `The permits of "${key}" were not free in time`)
    )
    const code = noWait
      ? yield* Effect.flatMap(
        semaphore.withPermitsIfAvailable(permits)(work),
        Option.match({
          onNone: () => exit("busy", `The permits of "${key}" are not free`),
          onSome: Effect.succeed
        })
      )
      : yield* Option.match(timeout, {
        onNone: () => semaphore.withPermits(permits)(work),
        onSome: (timeout) =>
          Effect.raceFirst(
            semaphore.withPermits(permits)(work),
            Effect.andThen(Effect.sleep(timeout), tooLate)
          )
      })
    if (code !== 0) return yield* new Exit({ code, message: "" })
  })
).pipe(
  Command.validate(({ noWait, timeout }) =>
    noWait && Option.isSome(timeout)
      ? Effect.fail(new CliError.UserError({ cause: undefined, userMessage: "Give --timeout or --no-wait, not both" }))
      : Effect.void
  ),
  Command.withDescription(
    `Run a command while holding permits. Its exit code is that of the command, which finds FENCING_TOKEN,
  LOCK_KEY and LOCK_IDENTIFIER in its environment. Signals are passed on. If the permits are lost, the
  command and its process group are stopped. What the command leaves in its process group when it ends is
  stopped before the permits are released.

  Exit codes of its own: 193 the permits are not free (--no-wait), 194 they were not free in time (--timeout),
  195 they were lost, 196 the store failed, 197 the arguments are wrong. 126 and 127 are those of a shell.`
  ),
  Command.withShortDescription("Run a command while holding permits"),
  Command.withExamples([
    {
      command: "effect-distributed-lock run --key nightly-report -- ./report.sh",
      description: "One at a time, anywhere"
    },
    {
      command: "effect-distributed-lock run --key gpu --limit 4 --permits 2 --timeout 10m -- python train.py",
      description: "Two of four permits, within ten minutes"
    }
  ])
)
