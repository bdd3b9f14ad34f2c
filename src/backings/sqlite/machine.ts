/** What a file of semaphores depends on: a clock that all processes share, and a file system of the machine's own. */
import * as Fs from "node:fs"

/** Times are microseconds. */
export interface Machine {
  /** Returns the time since the machine started, the same for all its processes. */
  readonly monotonic: () => number
  readonly wall: () => number
  /** Names this start of the machine. Empty where there is no such name. */
  readonly boot: string
  /** Returns the type of the file system that a path is on. */
  readonly fileSystem: (path: string) => number
  /** Returns whether a file is mounted by itself, without its folder. */
  readonly isMounted: (path: string) => boolean
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

/** Only Linux says what is mounted. */
const readMounted = (path: string): boolean => {
  try {
    const name = Fs.realpathSync(path).replace(
      /[\s\\]/g,
      (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, "0")}`
    )
    const mounts = Fs.readFileSync("/proc/self/mountinfo", "utf8").split("\n")
    return mounts.some((mount) => mount.split(" ")[4] === name)
  } catch {
    return false
  }
}

export const thisMachine = (): Machine => ({
  monotonic: () => Number(process.hrtime.bigint() / 1000n),
  wall: () => Date.now() * 1000,
  boot: readBoot(),
  fileSystem: (path) => Fs.statfsSync(path).type,
  isMounted: readMounted
})
