/**
 * A process whose store fails while it holds permits, and which then ends. Prints how many milliseconds pass from the end of
 * the work until the process exits. Its argument says what happens.
 */
import { Effect, Exit, Layer, Scope } from "effect"
import { Redis } from "ioredis"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"
import * as FakeBacking from "./fakeBacking.ts"

const holding = (ttl: DistributedSemaphore.DistributedSemaphoreConfig["ttl"], fail: () => Promise<void>) =>
  Effect.gen(function*() {
    const semaphore = yield* DistributedSemaphore.make("key", { ttl })
    const scope = yield* Scope.make()
    yield* Scope.provide(semaphore.take(1), scope)
    yield* Effect.promise(fail)
    const end = performance.now()
    process.once("exit", () => process.stdout.write(`${performance.now() - end}\n`))
    yield* Scope.close(scope, Exit.void)
  })

const run = <E>(
  layer: Layer.Layer<Layer.Success<ReturnType<typeof FakeBacking.layer>>, E>,
  ttl: DistributedSemaphore.DistributedSemaphoreConfig["ttl"],
  fail: () => Promise<void> = async () => {}
) => Effect.runPromise(Effect.provide(holding(ttl, fail), layer))

const faults: Record<string, () => Promise<void>> = {
  "the client is closed for good": async () => {
    const server = await startOwn(stores.redis)
    const redis = new Redis(server.url)
    await run(RedisBacking.layer(redis), "1 hour", async () => {
      redis.disconnect()
      await server.stop()
    })
  },
  "the store dies": async () => {
    const server = await startOwn(stores.redis)
    // The client itself waits 2 s for a socket that is gone already.
    const redis = new Redis(server.url, { disconnectTimeout: 10 })
    redis.on("error", () => {})
    await run(RedisBacking.layer(redis), "20 seconds", () => server.stop())
    redis.disconnect()
  },
  "the store fails every release": () =>
    run(FakeBacking.layer([], () => ({ release: () => Effect.fail(FakeBacking.failure("release")) })), "1 hour"),
  "the store never answers the release": () =>
    run(FakeBacking.layer([], () => ({ release: () => FakeBacking.hangs })), "1 hour")
}

await faults[process.argv[2]!]!()
