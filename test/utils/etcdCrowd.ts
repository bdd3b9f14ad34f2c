/**
 * A process of a crowd: so many waiters of one key, which join within ten seconds at most. It reports when it
 * held with which token, by the clock that all processes of the machine share, and how many waiters failed.
 */
import { Effect, Option } from "effect"
import { Etcd3 } from "etcd3"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { DistributedSemaphore, Lease } from "../../src/index.ts"

const [url, waiters] = process.argv.slice(2) as [string, string]

const client = new Etcd3({ hosts: url })
const holds: Array<readonly [nanos: string, token: string]> = []
let failures = 0

await Effect.gen(function*() {
  const { withPermit } = yield* DistributedSemaphore.make("crowd", { ttl: "60 seconds" })
  const waiter = withPermit(Effect.map(Lease, ({ fencingToken }) => {
    holds.push([String(process.hrtime.bigint()), String(Option.getOrThrow(fencingToken))])
  }))
  yield* Effect.forEach(
    Array.from({ length: Number(waiters) }, (_, index) => index),
    (index) => Effect.andThen(Effect.sleep(index * 4), Effect.catch(waiter, () => Effect.sync(() => failures++))),
    { concurrency: "unbounded", discard: true }
  )
}).pipe(Effect.provide(EtcdBacking.layer(client)), Effect.runPromise)

process.send!({ holds, failures })
client.close()
process.disconnect()
