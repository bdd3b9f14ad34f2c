/**
 * Eight processes compete for three permits, and one of them is killed on the way. They share a SQLite file, or the server that
 * REDIS_URL, POSTGRES_URL or ETCD_URL names.
 */
import { Effect, Fiber, Schedule } from "effect"
import { fork } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import type { DistributedSemaphore } from "../src/index.ts"
import * as Audit from "./audit.ts"
import * as Stores from "./stores.ts"
import * as View from "./view.ts"
import * as Worker from "./worker.ts"

type Semaphore = DistributedSemaphore.DistributedSemaphore

const key = `demo-${process.pid}`
const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "semaphores-"))
const filename = Path.join(folder, "demo.sqlite")
const store = await Stores.find(filename)

/** The pause between two snapshots. */
const pause = "20 millis"

const start = (index: number, view: View.View) => {
  const child = fork(new URL("process.ts", import.meta.url), [key, String(index), filename], {
    stdio: ["ignore", "ignore", "inherit", "ipc"]
  })
  const ready = new Promise((resolve) => {
    child.once("message", resolve)
    child.once("exit", resolve)
  })
  ready.then(() => child.on("message", (event) => view.event(event as Worker.Event)))
  const ended = new Promise<boolean>((resolve) =>
    child.once("exit", (code, signal) => resolve(code === 0 || signal === "SIGKILL"))
  )
  return { child, ready, ended }
}

/** Looks until a snapshot meets the condition. */
const lookUntil = (
  { inspect }: Semaphore,
  until: (state: Effect.Success<Semaphore["inspect"]>) => boolean
) => Effect.repeat(inspect, { schedule: Schedule.spaced(pause), until })

/** Kills a worker that holds permits, and waits until the store has freed them. */
const killOne = (semaphore: Semaphore, children: ReadonlyArray<ReturnType<typeof start>>, view: View.View) =>
  Effect.gen(function*() {
    const { holders: [victim] } = yield* lookUntil(
      semaphore,
      ({ holders, line }) => holders.length > 0 && line.length > 0
    )
    const index = Number(/^worker-(\d+)/.exec(victim!.identifier)![1])
    children[index - 1]!.child.kill("SIGKILL")
    const killed = performance.now()
    view.say(`worker-${index} killed with SIGKILL, holding ${victim!.permits}`)
    yield* lookUntil(semaphore, ({ holders }) => holders.every(({ identifier }) => identifier !== victim!.identifier))
    const passed = Math.round(performance.now() - killed)
    view.say(`the permits of worker-${index} came back ${passed} ms after the kill`)
    return { index, passed }
  })

const demo = Effect.gen(function*() {
  const semaphore = yield* Worker.semaphore(key)
  yield* semaphore.inspect
  const view = View.make(
    `${Worker.workers} processes compete for ${Worker.limit} permits through ${store.name}, ttl ${
      Worker.ttlMillis / 1000
    } s`,
    Worker.limit,
    Worker.ttlMillis
  )
  const audit = Audit.make(Worker.limit)
  const look = Effect.map(semaphore.inspect, (state) => {
    audit.see(state)
    view.state(state)
  })
  const watching = yield* Effect.forkChild(Effect.repeat(Effect.ignore(look), Schedule.spaced(pause)))

  const children = Array.from({ length: Worker.workers }, (_, index) => start(index + 1, view))
  yield* Effect.promise(() => Promise.all(children.map(({ ready }) => ready)))
  for (const { child } of children) child.send("begin")
  const allEnded = Effect.promise(() => Promise.all(children.map((child) => child.ended)))
  const { index, passed } = yield* Effect.raceFirst(
    killOne(semaphore, children, view),
    Effect.andThen(allEnded, Effect.fail("all workers ended, and none was killed"))
  )
  const ended = yield* allEnded
  yield* Fiber.interrupt(watching)
  yield* look

  const { kept, lines } = audit.summary()
  // Half a second more, because the machine may be busy.
  const inTime = passed <= Worker.ttlMillis + store.granularityMillis + 500
  const mark = inTime ? "✓" : "✗"
  console.log(
    [
      "",
      ...lines,
      `${mark} worker-${index} was killed: its permits were free after ${passed} ms, the ttl is ${Worker.ttlMillis} ms`
    ].join("\n")
  )
  return kept && inTime && ended.every((well) => well)
})

const exit = await Effect.runPromise(Effect.exit(Effect.timeout(Effect.provide(demo, store.layer), "3 minutes")))
Fs.rmSync(folder, { recursive: true })
if (exit._tag === "Failure") console.error(`The demo failed, through ${store.name}: ${exit.cause}`)
process.exitCode = exit._tag === "Success" && exit.value ? 0 : 1
