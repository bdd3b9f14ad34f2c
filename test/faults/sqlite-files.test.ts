/** The file of semaphores is deleted, replaced, or can't be written; the files that wake waiters are deleted. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { make } from "../../src/backings/sqlite/backing.ts"
import { SqliteBacking } from "../../src/backings/sqlite/index.ts"
import type { Machine } from "../../src/backings/sqlite/machine.ts"
import { thisMachine } from "../../src/backings/sqlite/machine.ts"
import { DistributedSemaphore, DistributedSemaphoreBacking } from "../../src/index.ts"
import { filename, folder, grants, rows, start } from "../utils/sqlite.ts"
import { until } from "../utils/until.ts"

const isRoot = process.getuid?.() === 0 && process.platform === "linux"

const mutex = DistributedSemaphore.make("key", { ttl: "1 second" })

/** Mounts a file system of 256 kB in memory. */
const tinyDisk = Effect.gen(function*() {
  const path = yield* folder
  return yield* Effect.acquireRelease(
    Effect.sync(() => {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", path])
      return path
    }),
    () => Effect.sync(() => execFileSync("umount", ["-l", path]))
  )
})

/** Writes until nothing more fits. */
const fill = (path: string) => {
  const file = Fs.openSync(Path.join(path, "ballast"), "w")
  try {
    for (const size of [4096, 1]) {
      try {
        while (true) Fs.writeSync(file, Buffer.alloc(size))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error
      }
    }
  } finally {
    Fs.closeSync(file)
  }
}

const remove = (file: string) => ["", "-wal", "-shm"].forEach((suffix) => Fs.rmSync(file + suffix))

describe("a file that is", () => {
  it.live.each(["deleted", "replaced"])(
    "%s makes the next operation fail and say so; the one after it finds nothing",
    (how) =>
      Effect.gen(function*() {
        const file = yield* filename
        const layer = SqliteBacking.layer({ filename: file })
        const backing = Context.get(yield* Layer.build(layer), DistributedSemaphoreBacking)
        const minute = Duration.minutes(1)
        yield* backing.tryAcquire("key", "holder", minute, 1, 1)
        remove(file)
        if (how === "replaced") yield* Effect.scoped(Layer.build(Layer.fresh(layer)))
        yield* Effect.sleep("20 millis")
        const error = yield* Effect.flip(backing.refresh("key", "holder", minute, 1, 1))
        expect(error).toMatchObject({ _tag: "SemaphoreBackingError", operation: "refresh" })
        expect(error.message).toContain(`${file}: The file was deleted or replaced`)
        expect(yield* backing.refresh("key", "holder", minute, 1, 1)).toBe(false)
        expect(yield* backing.tryAcquire("key", "other", minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
      })
  )

  it.live.each(["deleted", "replaced"])(
    "%s costs its holders their leases in time, and its waiters begin anew",
    (how) =>
      Effect.gen(function*() {
        const file = yield* filename
        const layer = SqliteBacking.layer({ filename: file })
        yield* Effect.gen(function*() {
          const semaphore = yield* mutex
          const held = yield* Effect.forkScoped(Effect.flip(Effect.never.pipe(semaphore.withPermit)))
          yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
          const waits = yield* Effect.forkScoped(Effect.never.pipe(semaphore.withPermit))
          yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))
          remove(file)
          if (how === "replaced") yield* Effect.scoped(Layer.build(Layer.fresh(layer)))
          expect(yield* Effect.timeout(Fiber.join(held), "2 seconds")).toMatchObject({ _tag: "LockLostError" })
          yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
          yield* Fiber.interrupt(waits)
        }).pipe(Effect.provide(layer))
        expect(rows(file)).toBe(0)
      })
  )

  it.live.skipIf(!isRoot)(
    "on a full disk makes operations fail and say so, until there is room (needs root, to mount a disk)",
    () =>
      Effect.gen(function*() {
        const disk = yield* tinyDisk
        const file = Path.join(disk, "semaphores.sqlite")
        yield* Effect.gen(function*() {
          const semaphore = yield* mutex
          const held = yield* Effect.forkScoped(Effect.flip(Effect.never.pipe(semaphore.withPermit)))
          yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
          fill(disk)
          const lost = yield* Effect.timeout(Fiber.join(held), "5 seconds")
          expect(lost).toMatchObject({ _tag: "LockLostError", reason: "unreachable" })
          expect((lost as Error).message).toMatch(/full|disk/)
          const error = yield* Effect.timeout(Effect.flip(semaphore.withPermit(Effect.void)), "5 seconds")
          expect(error).toMatchObject({ _tag: "SemaphoreBackingError" })
          expect((error as Error).message).toMatch(/full|disk/)
          Fs.rmSync(Path.join(disk, "ballast"))
          yield* Effect.timeout(semaphore.withPermit(Effect.void), "5 seconds")
        }).pipe(Effect.provide(SqliteBacking.layer({ filename: file })))
        expect(rows(file)).toBe(0)
      })
  )

  it.live.skipIf(!isRoot)(
    "in a folder that can't be written makes the layer fail (needs root, to mount a disk)",
    () =>
      Effect.gen(function*() {
        const disk = yield* tinyDisk
        execFileSync("mount", ["-o", "remount,ro", disk])
        const layer = SqliteBacking.layer({ filename: Path.join(disk, "semaphores.sqlite") })
        const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
        expect(error).toMatchObject({ _tag: "SemaphoreBackingError" })
        expect(error.message).toContain("EROFS")
      })
  )
})

const on = (machine: Partial<Machine>, filename: string) => make({ filename }, { ...thisMachine(), ...machine })

it.live("a waiter whose file can be opened, but not used, opens it only as often as its policy says", () =>
  Effect.gen(function*() {
    const file = yield* filename
    let opened = 0
    const fileSystem = () => {
      opened++
      return 0
    }
    const backing = yield* on({ boot: "here", fileSystem }, file)
    const semaphore = yield* Effect.provideService(mutex, DistributedSemaphoreBacking, backing)
    yield* Effect.forkScoped(Effect.exit(Effect.never.pipe(semaphore.withPermit)))
    yield* until(Effect.map(semaphore.currentCount, (count) => count === 1))
    const waits = yield* Effect.forkScoped(Effect.flip(semaphore.withPermit(Effect.void)))
    yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))
    opened = 0
    // Another machine takes the file over.
    yield* on({ boot: "there" }, file)
    expect(yield* Fiber.join(waits)).toMatchObject({ _tag: "SemaphoreBackingError" })
    expect(opened).toBeLessThan(100)
  }))

describe("grants in a file that has taken the place of another are heard", () => {
  const minute = Duration.minutes(1)

  /** Waits behind a holder of the other process, which releases. */
  const handOver = (
    to: DistributedSemaphoreBacking,
    from: DistributedSemaphoreBacking,
    heard: ReadonlyArray<unknown>
  ) =>
    Effect.gen(function*() {
      yield* from.tryAcquire("key", "holder", minute, 1, 1)
      const place = yield* to.tryAcquire("key", "waiter", minute, 1, 1, { queue: true })
      yield* from.release("key", "holder", 1)
      yield* until(Effect.sync(() => heard.length > 0))
      expect(place).toMatchObject({ _tag: "Waiting", fencingToken: heard.at(-1) })
      yield* to.release("key", "waiter", 1)
    })

  /** Hands over in a file, and in the one that takes its place. */
  const handOverInBoth = (opened: ReturnType<typeof on>, replace: () => void) =>
    Effect.gen(function*() {
      const backing = yield* opened
      const heard = yield* grants(backing, "key")
      yield* handOver(backing, yield* opened, heard)
      replace()
      const other = yield* opened
      yield* Effect.sleep("20 millis")
      yield* Effect.flip(backing.getCount("key", minute))
      yield* backing.getCount("key", minute)
      yield* Effect.sleep("1 millis")
      heard.length = 0
      yield* handOver(backing, other, heard)
    })

  it.live("after the wall clock was set back", () =>
    Effect.gen(function*() {
      const file = yield* filename
      let wall = 1_800_000_000_000_000
      yield* handOverInBoth(on({ wall: () => wall }, file), () => {
        remove(file)
        wall -= 3_600_000_000
      })
    }))

  it.live("if a link on the path leads to another folder now", () =>
    Effect.gen(function*() {
      const path = yield* folder
      const link = Path.join(path, "current")
      const leadTo = (release: string) => {
        Fs.mkdirSync(Path.join(path, release))
        Fs.rmSync(link, { force: true })
        Fs.symlinkSync(release, link)
      }
      leadTo("first")
      yield* handOverInBoth(on({}, Path.join(link, "semaphores.sqlite")), () => leadTo("second"))
    }))
})

it.live.each(["-wal", "-shm"])(
  "a file whose %s is deleted is opened anew by each process that uses it, which then sees what others hold",
  (suffix) =>
    Effect.gen(function*() {
      const file = yield* filename
      const backing = yield* on({}, file)
      const ask = backing.tryAcquire("key", "other", Duration.minutes(1), 1, 1)
      yield* ask
      yield* backing.release("key", "other", 1)
      Fs.rmSync(file + suffix)
      yield* Effect.sleep("20 millis")
      yield* Effect.retry(backing.getCount("key", Duration.minutes(1)), { times: 1 })
      const holder = yield* start("hold", file, 1, 60_000)
      expect(yield* holder.hears).toBe("holds")
      expect(yield* ask).toBe(false)
    }),
  240_000
)

it.live.skipIf(!isRoot)(
  "a file that is mounted without its folder is refused: its log is not where others have theirs (needs root)",
  () =>
    Effect.gen(function*() {
      const file = yield* filename
      const holder = yield* start("hold", file, 1, 60_000)
      yield* holder.hears
      const mounted = Path.join(yield* folder, "semaphores of {all}.sqlite")
      Fs.writeFileSync(mounted, "")
      yield* Effect.acquireRelease(
        Effect.sync(() => execFileSync("mount", ["--bind", file, mounted])),
        () => Effect.sync(() => execFileSync("umount", ["-l", mounted]))
      )
      const error = yield* Effect.flip(Effect.gen(function*() {
        const backing = yield* on({}, mounted)
        return yield* backing.tryAcquire("key", "other", Duration.minutes(1), 1, 1)
      }))
      expect(error.message).toContain("mounted without its folder")
    }),
  240_000
)

describe("the files that wake waiters", () => {
  it.live("may be deleted: they are made anew, and until then waiters look by themselves", () =>
    Effect.gen(function*() {
      const file = yield* filename
      const layer = SqliteBacking.layer({ filename: file })
      const semaphore = yield* Effect.provide(DistributedSemaphore.make("key"), yield* Layer.build(layer))
      const other = yield* Effect.provide(DistributedSemaphore.make("key"), yield* Layer.build(Layer.fresh(layer)))
      const wakeFiles = () => Fs.existsSync(`${file}-wake`) ? Fs.readdirSync(`${file}-wake`) : []
      for (const deleted of [true, false]) {
        yield* Effect.scoped(Effect.gen(function*() {
          let acquired = false
          yield* Effect.gen(function*() {
            yield* Effect.forkScoped(other.withPermit(Effect.sync(() => acquired = true)))
            yield* until(Effect.map(semaphore.inspect, ({ line }) => line.length === 1))
            yield* until(Effect.sync(() => wakeFiles().length === 1))
            if (deleted) Fs.rmSync(`${file}-wake`, { recursive: true })
          }).pipe(semaphore.withPermit)
          yield* until(Effect.sync(() => acquired), "3 seconds")
        }))
        yield* until(Effect.sync(() => wakeFiles().length === 1))
      }
    }))
})
