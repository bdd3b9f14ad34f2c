/**
 * Eight workers compete for three permits. Without REDIS_URL they are fibers of this process and share a MemoryBacking;
 * with it they are processes of their own that share a Redis, and one of them is killed on the way.
 */
import { Effect, Fiber, Schedule } from "effect"
import { Redis } from "ioredis"
import { fork } from "node:child_process"
import { MemoryBacking, RedisBacking } from "../src/index.ts"
import type { DistributedSemaphore } from "../src/index.ts"
import * as Audit from "./audit.ts"
import * as View from "./view.ts"
import * as Worker from "./worker.ts"

type Semaphore = DistributedSemaphore.DistributedSemaphore

const key = `demo-${process.pid}`
const indices = Array.from({ length: Worker.workers }, (_, index) => index + 1)
const title = (where: string) =>
  `${Worker.workers} workers compete for ${Worker.limit} permits ${where}, ttl ${Worker.ttlMillis / 1000} s`

/** Runs the workers while the store is watched, for the view and for the audit; then tells what the audit found. */
const demonstrate = <E, R>(view: View.View, work: (semaphore: Semaphore) => Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    const audit = Audit.make(Worker.limit)
    const semaphore = yield* Worker.semaphore(key)
    const look = Effect.map(semaphore.inspect, (state) => {
      audit.see(state)
      view.state(state)
    })
    const watching = yield* Effect.forkChild(Effect.repeat(look, Schedule.spaced("20 millis")))
    const workKept = yield* work(semaphore)
    yield* Fiber.interrupt(watching)
    yield* look

    const { kept, lines } = audit.summary()
    console.log(["", ...lines].join("\n"))
    process.exitCode = kept && workKept ? 0 : 1
  })

const inThisProcess = Effect.suspend(() => {
  const view = View.make(title("through MemoryBacking"), Worker.limit, Worker.ttlMillis)
  return demonstrate(
    view,
    () =>
      Effect.forEach(indices, (index) => Worker.run(key, index, view.event), { concurrency: "unbounded" }).pipe(
        Effect.as(true)
      )
  )
}).pipe(Effect.provide(MemoryBacking.layer))

const asProcesses = (redis: Redis) => {
  const view = View.make(title("as processes through Redis"), Worker.limit, Worker.ttlMillis)

  const start = (index: number) => {
    const child = fork(new URL("process.ts", import.meta.url), [key, String(index)], {
      stdio: ["ignore", "ignore", "inherit", "ipc"]
    })
    child.on("message", (event) => view.event(event as Worker.Event))
    const ended = new Promise<boolean>((resolve) =>
      child.once("exit", (code, signal) => resolve(code === 0 || signal === "SIGKILL"))
    )
    return { child, ended }
  }

  /** Kills a worker that holds permits, and waits until the store has given them up. */
  const killOne = (semaphore: Semaphore, children: ReadonlyArray<ReturnType<typeof start>>) =>
    Effect.gen(function*() {
      const { holders: [victim] } = yield* Effect.repeat(semaphore.inspect, {
        schedule: Schedule.spaced("20 millis"),
        until: ({ holders, line }) => holders.length > 0 && line.length > 0
      })
      const index = Number(/^worker-(\d+)/.exec(victim!.identifier)![1])
      children[index - 1]!.child.kill("SIGKILL")
      const killed = performance.now()
      view.say(`worker-${index} killed with SIGKILL, holding ${victim!.permits}`)
      yield* Effect.repeat(semaphore.inspect, {
        schedule: Schedule.spaced("20 millis"),
        until: ({ holders }) => holders.every(({ identifier }) => identifier !== victim!.identifier)
      })
      const passed = performance.now() - killed
      view.say(`the permits of worker-${index} came back ${Math.round(passed)} ms after the kill`)
      return { index, passed }
    })

  return demonstrate(view, (semaphore) =>
    Effect.gen(function*() {
      const children = indices.map(start)
      const { index, passed } = yield* killOne(semaphore, children)
      const ended = yield* Effect.promise(() => Promise.all(children.map((child) => child.ended)))
      // The snapshots that noticed it are 20 ms apart, and the machine may be busy.
      const inTime = passed <= Worker.ttlMillis + 500
      console.log(
        `\n${inTime ? "✓" : "✗"} worker-${index} was killed: its permits were free after ${
          Math.round(passed)
        } ms, the ttl is ${Worker.ttlMillis} ms`
      )
      return inTime && ended.every((well) => well)
    })).pipe(
      Effect.provide(RedisBacking.layer(redis)),
      Effect.ensuring(Effect.sync(() => redis.disconnect()))
    )
}

const redisUrl = process.env.REDIS_URL
if (redisUrl === undefined || redisUrl === "") {
  await Effect.runPromise(inThisProcess)
} else {
  const redis = new Redis(redisUrl, { lazyConnect: true })
  redis.on("error", () => {})
  await redis.connect().then(
    () => Effect.runPromise(asProcesses(redis)),
    (error) => {
      redis.disconnect()
      console.error(`REDIS_URL is ${redisUrl}, but there is no Redis: ${error.message}`)
      process.exitCode = 1
    }
  )
}
