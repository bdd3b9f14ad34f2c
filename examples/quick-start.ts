/** At most two of five jobs at a time, across all processes that run this file. */
import { Effect } from "effect"
import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"
import { Redis } from "ioredis"

const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379")

const job = (name: string) => Effect.delay(Effect.log(`${name} is done`), "100 millis")

const program = Effect.gen(function*() {
  const semaphore = yield* DistributedSemaphore.make("jobs", { limit: 2, ttl: "10 seconds" })

  yield* Effect.forEach(
    ["one", "two", "three", "four", "five"],
    (name) => job(name).pipe(semaphore.withPermits(1)),
    { concurrency: "unbounded" }
  )
})

await program.pipe(
  Effect.provide(RedisBacking.layer(redis)),
  Effect.ensuring(Effect.sync(() => redis.disconnect())),
  Effect.runPromise
)
