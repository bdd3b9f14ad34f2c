/**
 * Shows what a lease alone can't prevent: a process is paused in the middle of its work, for longer than its lease lasts, and
 * goes on writing before it can notice. A resource that refuses tokens below the highest it has seen is safe from this.
 */
import { Effect, Option } from "effect"
import type { FencingToken } from "effect-distributed-lock"
import { DistributedSemaphore, Lease, RedisBacking } from "effect-distributed-lock"
import { Redis } from "ioredis"
import { fork } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** A file that knows the highest token it was written with. A real one would compare and write in one atomic step. */
const guardedFile = (path: string) => ({
  write: (text: string, token: FencingToken): "written" | "refused" => {
    const highest = existsSync(path) ? BigInt(readFileSync(path, "utf8").split("\n")[0]!) : 0n
    if (token < highest) return "refused"
    writeFileSync(path, `${token}\n${text}`)
    return "written"
  },
  read: () => readFileSync(path, "utf8").split("\n")[1]
})

const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379")
const mutex = DistributedSemaphore.make("fencing", { ttl: "1 second" })
const token = Effect.map(Lease, (lease) => Option.getOrThrow(lease.fencingToken))

/** Pauses while it holds the permit. This blocks the process, as a long garbage collection or a suspended machine would. */
const pausedHolder = (path: string) =>
  Effect.gen(function*() {
    const mine = yield* token
    yield* Effect.promise(() => new Promise((resolve) => process.send!("holding", resolve)))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500)
    console.log(`the paused holder writes: ${guardedFile(path).write("from the past", mine)}`)
    yield* Effect.sleep("1 second")
  })

const nextHolder = (path: string) =>
  Effect.gen(function*() {
    console.log(`the next holder writes: ${guardedFile(path).write("from the present", yield* token)}`)
  })

const run = (work: Effect.Effect<void, never, Lease>) =>
  Effect.flatMap(mutex, ({ withPermits }) => work.pipe(withPermits(1))).pipe(
    Effect.catchTag("LockLostError", (error) => Effect.sync(() => console.log(`and then learns: ${error.message}`))),
    Effect.provide(RedisBacking.layer(redis)),
    Effect.ensuring(Effect.sync(() => redis.disconnect())),
    Effect.runPromise
  )

const [pathForChild] = process.argv.slice(2)
if (pathForChild !== undefined) {
  await run(pausedHolder(pathForChild))
  process.disconnect()
} else {
  const folder = mkdtempSync(join(tmpdir(), "fencing-"))
  const path = join(folder, "file")
  const child = fork(import.meta.filename, [path])
  await new Promise((resolve, reject) => {
    child.once("message", resolve)
    child.once("exit", () => reject(new Error("the first holder ended before it held the permit")))
  })
  await run(nextHolder(path))
  await new Promise((resolve) => child.once("exit", resolve))
  console.log(`the file says: ${guardedFile(path).read()}`)
  rmSync(folder, { recursive: true })
}
