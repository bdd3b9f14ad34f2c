/** Servers from programs on this machine. */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import type { Server } from "./server.ts"
import { freePort, untilReady } from "./server.ts"
import type { Program } from "./stores.ts"

/** Finds a program on the PATH, or where Debian puts those of PostgreSQL. */
const locate = (program: string): string | undefined => {
  const versions = "/usr/lib/postgresql"
  const folders = [
    ...(process.env.PATH ?? "").split(Path.delimiter),
    ...(Fs.existsSync(versions)
      ? Fs.readdirSync(versions).toSorted().map((version) => `${versions}/${version}/bin`)
      : [])
  ]
  return folders.map((folder) => Path.join(folder, program)).find((file) => Fs.existsSync(file))
}

export const isInstalled = (store: Program): boolean => store.programs.every((program) => locate(program) !== undefined)

const userFor = (store: Program): { readonly uid?: number; readonly gid?: number } => {
  if (!store.refusesRoot || process.getuid?.() !== 0) return {}
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }))
  return { uid: id("-u"), gid: id("-g") }
}

const children = new Set<ChildProcess>()
process.once("exit", () => children.forEach((child) => child.kill("SIGKILL")))

const childrenOf = (store: Program, child: ChildProcess): ReadonlyArray<number> =>
  store.forks
    ? spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" }).stdout
      .split("\n").filter((line) => line !== "").map(Number)
    : []

const signalAll = (pids: ReadonlyArray<number>, signal: NodeJS.Signals) => {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      // It has ended meanwhile.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
    }
  }
}

const ramDisk = "/dev/shm"
const enoughBytes = 4 * 2 ** 30

/** On a RAM disk, a server that is killed loses nothing, and the tests wait for no disk. */
const parentOfFolders = (): string => {
  if (!Fs.existsSync(ramDisk)) return Os.tmpdir()
  const { bavail, bsize } = Fs.statfsSync(ramDisk)
  return bavail * bsize > enoughBytes ? ramDisk : Os.tmpdir()
}

/** Fills a folder before the first start. What one process has prepared, those that it starts copy, in a tenth of the time. */
const prepare = (store: Program, folder: string, user: ReturnType<typeof userFor>) => {
  const preparation = store.prepare(folder)
  if (preparation === undefined) return
  const variable = `PREPARED_${store.name}`
  const template = process.env[variable]
  if (template !== undefined && Fs.existsSync(template)) {
    execFileSync("cp", ["-a", `${template}/.`, folder])
    return
  }
  execFileSync(locate(store.programs[1]!)!, preparation, { cwd: folder, stdio: "pipe", ...user })
  const copy = `${folder}-prepared`
  execFileSync("cp", ["-a", folder, copy])
  process.env[variable] = copy
  process.once("exit", () => Fs.rmSync(copy, { recursive: true, force: true }))
}

export const start = async (
  store: Program,
  extraArgs: ReadonlyArray<string> = [],
  parent = parentOfFolders()
): Promise<Server> => {
  const port = await freePort()
  const user = userFor(store)
  const folder = Fs.mkdtempSync(Path.join(parent, `edl-${store.name}-`))
  if (user.uid !== undefined) Fs.chownSync(folder, user.uid, user.gid!)
  const server = locate(store.programs[0]!)!
  prepare(store, folder, user)

  let child: ChildProcess
  /** Signals the parent first, so that it starts no more children. */
  const signal = async (name: NodeJS.Signals) => {
    child.kill(name)
    signalAll(childrenOf(store, child), name)
  }
  const launch = async () => {
    let output = ""
    child = spawn(server, [...store.args(port, folder), ...extraArgs], {
      cwd: folder,
      env: { ...process.env, ...store.variables },
      stdio: ["ignore", "pipe", "pipe"],
      ...user
    })
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on("data", (data) => output = (output + data).slice(-4000))
    }
    children.add(child)
    const mine = child
    await untilReady(store, port, () => mine.exitCode === null && mine.signalCode === null ? undefined : output)
  }
  const kill = async () => {
    const mine = child
    if (mine.exitCode === null && mine.signalCode === null) {
      const ended = new Promise((resolve) => mine.once("exit", resolve))
      // While one of its children lives, PostgreSQL does not start again. A parent that is stopped starts no more of them.
      mine.kill("SIGSTOP")
      const orphans = childrenOf(store, mine)
      mine.kill("SIGKILL")
      await ended
      signalAll(orphans, "SIGKILL")
    }
    children.delete(mine)
  }

  await launch()
  return {
    url: store.url(port),
    port,
    freeze: () => signal("SIGSTOP"),
    thaw: () => signal("SIGCONT"),
    kill,
    restart: launch,
    stop: async () => {
      await kill()
      Fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}
