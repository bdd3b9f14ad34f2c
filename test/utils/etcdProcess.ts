/** A process that holds, waits, and closes all. It prints when it has done so, and when it exits, in milliseconds. */
import { Effect, Fiber } from "effect"
import { Etcd3 } from "etcd3"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore } from "../../src/index.ts"
import { until } from "./until.ts"

const client = new Etcd3({ hosts: process.env.ETCD_URL! })

await Effect.gen(function*() {
  const mutex = yield* DistributedSemaphore.make(`process-${process.pid}`)
  const holder = yield* Effect.forkChild(mutex.withPermits(1)(Effect.never))
  yield* until(Effect.map(mutex.currentCount, (count) => count === 1))
  const waiters = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(mutex.withPermits(1)(Effect.void)))
  yield* until(Effect.map(mutex.inspect, ({ line }) => line.length === 3))
  yield* Fiber.interrupt(holder)
  yield* Fiber.joinAll(waiters)
}).pipe(Effect.provide(EtcdBacking.layer(client)), Effect.runPromise)

client.close()
const print = () => process.stdout.write(`${performance.now()}\n`)
print()
process.once("exit", print)
