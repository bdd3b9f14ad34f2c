/** A process that uses a file of semaphores. Arguments: what it does, the file, and more. It reports by messages. */
import { Effect, Option, Random } from "effect"
import { DatabaseSync } from "node:sqlite"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import { DistributedSemaphore, Lease } from "../../src/index.ts"

const [what, filename, ...args] = process.argv.slice(2) as [string, string, ...ReadonlyArray<string>]

const send = (message: unknown) => void process.send!(message)

/** Microseconds of the clock that all processes of the machine share. */
const now = () => Number(process.hrtime.bigint() / 1000n)

const scenarios: Record<string, Effect.Effect<void, unknown, Layer>> = {
  /** Holds a permit until it is killed or loses its lease. Arguments: limit, ttl in milliseconds. */
  hold: Effect.gen(function*() {
    const semaphore = yield* DistributedSemaphore.make("key", { limit: Number(args[0]), ttl: Number(args[1]) })
    const exit = yield* Effect.exit(
      semaphore.withPermits(1, { identifier: "holder" })(Effect.andThen(Effect.sync(() => send("holds")), Effect.never))
    )
    send(String(exit))
  }),

  /** Begins a transaction that would take all permits, and never ends it. */
  transact: Effect.gen(function*() {
    yield* DistributedSemaphore.make("key")
    const database = new DatabaseSync(filename)
    // A database without references would be closed.
    Object.assign(globalThis, { database })
    database.exec("begin immediate; delete from semaphores; delete from contenders")
    send("inside")
    yield* Effect.never
  }),

  /** Asks again and again, for one or two of three permits, and reports each hold. Arguments: milliseconds in all. */
  work: Effect.gen(function*() {
    const semaphore = yield* DistributedSemaphore.make("key", { limit: 3, ttl: "2 seconds" })
    const end = performance.now() + Number(args[0])
    while (performance.now() < end) {
      const permits = yield* Random.nextIntBetween(1, 3)
      yield* semaphore.withPermits(permits)(Effect.gen(function*() {
        const from = now()
        const token = Option.getOrThrow((yield* Lease).fencingToken)
        yield* Effect.sleep(yield* Random.nextIntBetween(0, 5))
        send({ permits, token: String(token), from, to: now() })
      }))
    }
  }),

  /** Holds for a moment, again and again until it is killed, and reports when it asked, acquired and released. */
  pass: Effect.gen(function*() {
    const mutex = yield* DistributedSemaphore.make("key")
    yield* Effect.forever(Effect.gen(function*() {
      const asked = now()
      const times = yield* mutex.withPermit(Effect.gen(function*() {
        const acquired = now()
        yield* Effect.sleep(5)
        return { acquired, released: now() }
      }))
      send({ asked, ...times })
    }))
  })
}

type Layer = Effect.Services<ReturnType<typeof DistributedSemaphore.make>>

const alive = setInterval(() => {}, 1000)
await Effect.runPromise(Effect.provide(scenarios[what]!, SqliteBacking.layer({ filename })))
clearInterval(alive)
process.disconnect()
