/** The stores that are measured: servers of the bench's own, with their data on disk and on a RAM disk. */
import { Redis } from "ioredis"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { Client } from "pg"
import { startBinary } from "../test/servers/find.ts"
import { stores } from "../test/servers/stores.ts"
import type { Medium } from "./report/results.ts"
import { connectEtcd } from "./subjects/etcd.ts"
import type { StoreName } from "./subjects/subject.ts"

export interface StoreServer {
  readonly url: string
  /** Removes what earlier runs left, so that each meets the same store. */
  readonly tidy: () => Promise<void>
  readonly stop: () => Promise<void>
}

const ramDisk = "/dev/shm"
const tmpfs = 0x01021994

/** A folder that is on a disk, if there is one: /tmp is often not. */
const disk = ["/var/tmp", Os.tmpdir()].find((folder) => Fs.existsSync(folder) && Fs.statfsSync(folder).type !== tmpfs)

export const hasMedium = (medium: Medium): boolean =>
  medium === "memory" || (medium === "disk" ? disk !== undefined : Fs.existsSync(ramDisk))

const folderOf = (medium: Medium) => medium === "RAM disk" ? ramDisk : disk

const redis = async (): Promise<StoreServer> => {
  const { stop, url } = await startBinary(stores.redis, ["--appendonly", "no", "--maxclients", "20000"])
  const client = new Redis(url)
  return {
    url,
    tidy: async () => void await client.flushall(),
    stop: async () => {
      client.disconnect()
      await stop()
    }
  }
}

const postgresOptions = ["max_connections=1200", "shared_preload_libraries=pg_stat_statements"]

/** How long to wait until sessions that have ended are gone from the server. */
const millisToLeave = 5000

const postgres = async (medium: Medium): Promise<StoreServer> => {
  const { stop, url } = await startBinary(
    stores.postgres,
    postgresOptions.flatMap((option) => ["-c", option]),
    folderOf(medium)
  )
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query("create extension if not exists pg_stat_statements")
  const others = "select count(*)::int as count from pg_stat_activity where backend_type = 'client backend'"
  return {
    url,
    tidy: async () => {
      const deadline = performance.now() + millisToLeave
      while ((await client.query(others)).rows[0].count > 1 && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      await client.query("vacuum")
    },
    stop: async () => {
      await client.end()
      await stop()
    }
  }
}

const etcd = async (medium: Medium): Promise<StoreServer> => {
  const { stop, url } = await startBinary(
    stores.etcd,
    ["--quota-backend-bytes=4000000000", "--log-level=error"],
    folderOf(medium)
  )
  const client = connectEtcd(url)
  return {
    url,
    tidy: async () => void await client.delete().all().exec(),
    stop: async () => {
      client.close()
      await stop()
    }
  }
}

const sqlite = async (medium: Medium): Promise<StoreServer> => {
  const folder = Fs.mkdtempSync(Path.join(folderOf(medium)!, "edl-bench-"))
  return {
    url: Path.join(folder, "semaphores.sqlite"),
    tidy: async () => {
      for (const name of Fs.readdirSync(folder)) Fs.rmSync(Path.join(folder, name), { recursive: true })
    },
    stop: async () => Fs.rmSync(folder, { recursive: true, force: true })
  }
}

const memory: StoreServer = { url: "", tidy: async () => {}, stop: async () => {} }

export const start = (store: StoreName, medium: Medium): Promise<StoreServer> => {
  switch (store) {
    case "memory":
      return Promise.resolve(memory)
    case "redis":
      return redis()
    case "postgres":
      return postgres(medium)
    case "etcd":
      return etcd(medium)
    case "sqlite":
      return sqlite(medium)
  }
}

const versionOf = (program: string): string => {
  const folders = Fs.existsSync("/usr/lib/postgresql")
    ? Fs.readdirSync("/usr/lib/postgresql").map((version) => `/usr/lib/postgresql/${version}/bin`)
    : []
  try {
    return execFileSync(program, ["--version"], {
      encoding: "utf8",
      env: { ...process.env, PATH: [process.env.PATH, ...folders].join(":") }
    }).split("\n")[0]!
  } catch {
    return "unknown"
  }
}

export const serverVersions = (): Record<string, string> =>
  Object.fromEntries(["redis-server", "postgres", "etcd"].map((program) => [program, versionOf(program)]))
