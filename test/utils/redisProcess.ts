/** A process with many contenders on the Redis of REDIS_URL. Arguments: what they do, and how many. Prints JSON. */
import { Effect, Exit, Fiber, Scope } from "effect"
import { Redis } from "ioredis"
import { DistributedSemaphore, RedisBacking } from "../../src/index.ts"
import { until } from "./until.ts"

const redis = new Redis(process.env.REDIS_URL!)
const [what, size] = [process.argv[2]!, Number(process.argv[3])]

const cpuMillis = () => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1000
}

const scenarios = {
  /**
   * Measures the share of a core that idle holds of as many keys take, at a ttl of 3 s: that of the first window of three
   * refreshes in which it is as small as it should be, or the least of twenty. Until the code is compiled, it takes more, and a
   * busy machine adds to it.
   */
  holds: Effect.gen(function*() {
    yield* Effect.forEach(
      Array.from({ length: size }, (_, index) => `${process.pid} ${index}`),
      (key) => Effect.flatMap(DistributedSemaphore.make(key, { ttl: "3 seconds" }), ({ take }) => take(1)),
      { concurrency: 100 }
    )
    yield* Effect.sleep("4 seconds")
    const shares: Array<number> = []
    do {
      const [start, cpu] = [performance.now(), cpuMillis()]
      yield* Effect.sleep("3 seconds")
      shares.push((cpuMillis() - cpu) / (performance.now() - start))
    } while (shares.length < 20 && shares.at(-1)! > Number(process.argv[4]))
    return { share: Math.min(...shares), shares }
  }),
  /** Says whether the waiters of one key acquire in order, and how much memory the process has at most. */
  waiters: Effect.gen(function*() {
    const mutex = yield* DistributedSemaphore.make(`${process.pid}`, { ttl: "2 minutes" })
    const holder = yield* Scope.make()
    yield* Scope.provide(mutex.take(1), holder)
    const order: Array<number> = []
    const waiters = yield* Effect.forEach(
      Array.from({ length: size }, (_, index) => index),
      (index) =>
        Effect.forkDetach(mutex.withPermits(1)(Effect.sync(() => order.push(index))), { startImmediately: true })
    )
    yield* until(Effect.map(mutex.inspect, ({ waiterCount }) => waiterCount === size), "30 seconds")
    yield* Scope.close(holder, Exit.void)
    yield* Fiber.joinAll(waiters)
    return {
      inOrder: order.length === size && order.every((value, index) => value === index),
      residentMegabytes: process.resourceUsage().maxRSS / 1024
    }
  })
}

const figures = await Effect.runPromise(
  Effect.scoped(scenarios[what as keyof typeof scenarios] as Effect.Effect<unknown, unknown, never>).pipe(
    Effect.provide(RedisBacking.layer(redis))
  )
)
process.stdout.write(JSON.stringify(figures))
redis.disconnect()
