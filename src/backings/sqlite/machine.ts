/** What a file of semaphores depends on: a clock that all processes of the machine share, and a file system of its own. */
import * as Fs from "node:fs"

/** Times are microseconds. */
export interface Machine {
  /** Since the machine started, the same for all its processes. */
  readonly monotonic: () => number
  readonly wall: () => number
  /** Names the time since the machine started; empty where nothing does. */
  readonly boot: string
  /** The type of the file system that a path is on. */
  readonly fileSystem: (path: string) => number
}

const readBoot = (): string => {
  try {
    const boot = Fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
    // A process in another time namespace has another monotonic clock.
    return `${boot} ${Fs.readlinkSync("/proc/self/ns/time")}`
  } catch {
    return ""
  }
}

export const thisMachine = (): Machine => ({
  monotonic: () => Number(process.hrtime.bigint() / 1000n),
  wall: () => Date.now() * 1000,
  boot: readBoot(),
  fileSystem: (path) => Fs.statfsSync(path).type
})
