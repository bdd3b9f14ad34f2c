/**
 * Hands a hold from one process to the next by its identifier: the first prepares and exits, the second goes on as the same
 * holder and releases. Nobody else comes between them.
 */
import { Effect, Scope } from "effect"
import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"
import { Redis } from "ioredis"
import { fork } from "node:child_process"

const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379")
const mutex = DistributedSemaphore.make("hand-off", { ttl: "10 seconds" })

const first = Effect.gen(function*() {
  const { take } = yield* mutex
  const identifier = crypto.randomUUID()

  // The process exits without closing this scope: the hold stays, for a ttl at most.
  yield* Scope.provide(take(1, { identifier }), yield* Scope.make())
  yield* Effect.log("the first process holds the permit, prepares, and exits")
  yield* Effect.sync(() => process.send!(identifier, () => process.exit()))
  yield* Effect.never
})

const second = (identifier: string) =>
  Effect.gen(function*() {
    const { currentCount, withPermits } = yield* mutex
    yield* Effect.log("the second process goes on under the same hold").pipe(
      withPermits(1, { identifier, acquiredExternally: true })
    )
    yield* Effect.log(`permits held at the end: ${yield* currentCount}`)
  })

const isFirst = process.argv[2] === "first"
const program = isFirst ? first : Effect.gen(function*() {
  const child = fork(import.meta.filename, ["first"])
  const identifier = yield* Effect.promise(() =>
    new Promise<string>((resolve, reject) => {
      let identifier: string | undefined
      child.once("message", (message) => identifier = String(message))
      child.once("exit", () => identifier ? resolve(identifier) : reject(new Error("the first process failed")))
    })
  )
  yield* second(identifier)
})

await program.pipe(
  Effect.provide(RedisBacking.layer(redis)),
  Effect.ensuring(Effect.sync(() => redis.disconnect())),
  Effect.runPromise
)
