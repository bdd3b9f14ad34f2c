/** L2: a crash delays others by one ttl at most. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { DistributedSemaphoreBacking } from "../../../core/Backing.ts"
import * as DistributedSemaphore from "../../../core/DistributedSemaphore.ts"
import { leaseCase } from "../../BackingCase.ts"
import type { Subject } from "../subject.ts"

const take = (subject: Subject, id: string, key: string, limit: number) =>
  DistributedSemaphore.make(key, { limit, ttl: subject.long, acquireRetryInterval: "10 millis" }).pipe(
    Effect.flatMap((semaphore) => semaphore.withPermits(limit, { identifier: id })(Effect.void)),
    Effect.provideService(DistributedSemaphoreBacking, subject.processOf(id))
  )

/** Adds some time for a slow machine, if time is real. */
const within = ({ options }: Subject, time: Duration.Duration) =>
  Duration.sum(
    Duration.sum(time, options.granularity),
    options.virtualTime ? Duration.millis(20) : Duration.seconds(10)
  )

export const cases = [
  leaseCase(
    "L2",
    "a holder that has crashed delays a waiter by its ttl at most",
    [],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key } = subject.semaphore(1)
        yield* acquires("crashed", 1, subject.short)
        yield* subject.drive(take(subject, "waiter", key, 1), within(subject, subject.short))
      })
  ),

  leaseCase(
    "L2",
    "a waiter that has crashed delays those behind it by its ttl at most",
    ["queue"],
    (subject) =>
      Effect.gen(function*() {
        const { acquires, key, releases, waits } = subject.semaphore(1)
        yield* acquires("holder", 1)
        yield* waits("crashed", 1, subject.short)
        yield* releases("holder", 1)
        yield* subject.drive(take(subject, "waiter", key, 1), within(subject, subject.short))
      })
  )
]
