/**
 * Resumes a job after a crash: its process stores the identifier of its hold before it works, and is killed. The next run goes
 * on as the same holder, so that nobody else gets in between.
 */
import { Effect, Option } from "effect"
import type { DistributedSemaphoreBacking } from "effect-distributed-lock"
import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"
import { Redis } from "ioredis"
import { fork } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379")
const mutex = DistributedSemaphore.make("crash-recovery", { ttl: "10 seconds" })

/** The first run never gets to the end. */
const firstRun = (journal: string) =>
  Effect.gen(function*() {
    const identifier = crypto.randomUUID()
    writeFileSync(journal, identifier)
    const { withPermits } = yield* mutex
    yield* Effect.sync(() => process.kill(process.pid, "SIGKILL")).pipe(withPermits(1, { identifier }))
  })

/** The next run resumes if the lease still lasts. Otherwise it starts over, like anybody else. */
const nextRun = (journal: string) =>
  Effect.gen(function*() {
    const { withPermits, withPermitsIfAvailable } = yield* mutex
    const identifier = readFileSync(journal, "utf8")

    const strangersTurn = yield* Effect.void.pipe(withPermitsIfAvailable(1))
    yield* Effect.log(`somebody else gets the permit meanwhile: ${Option.isSome(strangersTurn)}`)

    const resumed = yield* Effect.log("resumed where the first run was killed").pipe(
      withPermitsIfAvailable(1, { identifier, acquiredExternally: true })
    )
    if (Option.isNone(resumed)) {
      yield* Effect.log("the lease had expired: starting over").pipe(withPermits(1))
    }
  })

const run = <E>(program: Effect.Effect<void, E, DistributedSemaphoreBacking>) =>
  program.pipe(
    Effect.provide(RedisBacking.layer(redis)),
    Effect.ensuring(Effect.sync(() => redis.disconnect())),
    Effect.runPromise
  )

const [journalOfFirstRun] = process.argv.slice(2)
if (journalOfFirstRun !== undefined) {
  await run(firstRun(journalOfFirstRun))
} else {
  const folder = mkdtempSync(join(tmpdir(), "crash-recovery-"))
  const journal = join(folder, "identifier")
  const child = fork(import.meta.filename, [journal])
  const signal = await new Promise((resolve) => child.once("exit", (_code, signal) => resolve(signal)))
  console.log(`the first run ended by ${signal}`)
  await run(nextRun(journal))
  rmSync(folder, { recursive: true })
}
