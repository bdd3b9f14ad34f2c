/** How each store is found, started and asked whether it is ready. */
import { readFileSync } from "node:fs"
import * as Net from "node:net"

export type StoreName = "redis" | "postgres" | "etcd"

/** A server that is started from programs on this machine. */
export interface Program {
  readonly name: string
  /** The environment variable that names a running server, if tests may use one. */
  readonly urlVariable?: string
  readonly url: (port: number) => string
  /** The programs, the server first. */
  readonly programs: ReadonlyArray<string>
  /** Whether the server refuses to run as root. It then runs as the user `postgres`. */
  readonly refusesRoot: boolean
  /** Whether the server has a process for each connection, which is frozen and killed with it. */
  readonly forks: boolean
  /** Environment variables of the server besides ours. */
  readonly variables?: Record<string, string>
  /** Returns the arguments of the second program, if any. It runs in an empty folder before the first start. */
  readonly prepare: (folder: string) => ReadonlyArray<string> | undefined
  /** The folder is also the working directory. */
  readonly args: (port: number, folder: string) => ReadonlyArray<string>
  readonly isReady: (url: string) => Promise<boolean>
}

export interface Store extends Program {
  readonly name: StoreName
  readonly urlVariable: string
  /** The port in a container. */
  readonly containerPort: number
  readonly environment: Record<string, string>
  readonly command: ReadonlyArray<string>
}

export const loopback = "127.0.0.1"

/** Returns what a server answers to these bytes, or nothing if it does not answer within a second. */
const ask = (url: string, bytes: string | Uint8Array): Promise<string> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(url)
    const socket = Net.connect(Number(port), hostname)
    const done = (answer: string) => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(1000, () => done(""))
    socket.on("error", () => done(""))
    socket.on("connect", () => socket.write(bytes))
    socket.on("data", (data) => done(data.toString("latin1")))
    socket.on("close", () => done(""))
  })

const redis: Store = {
  name: "redis",
  urlVariable: "REDIS_URL",
  url: (port) => `redis://${loopback}:${port}`,
  containerPort: 6379,
  environment: {},
  command: ["redis-server", "--save", ""],
  programs: ["redis-server"],
  refusesRoot: false,
  forks: false,
  prepare: () => undefined,
  args: (port, folder) => ["--port", String(port), "--bind", loopback, "--save", "", "--dir", folder],
  isReady: async (url) => (await ask(url, "PING\r\n")).startsWith("+PONG")
}

/** A StartupMessage. The answer begins with R, for authentication, or with E, as while the server still recovers. */
const startupMessage = (url: string) => {
  const text = `\0\x03\0\0user\0${new URL(url).username || "postgres"}\0\0`
  return Buffer.from(`\0\0\0${String.fromCharCode(text.length + 4)}${text}`, "latin1")
}

export const answersPostgres = async (url: string) => (await ask(url, startupMessage(url))).startsWith("R")

const postgres: Store = {
  name: "postgres",
  urlVariable: "POSTGRES_URL",
  url: (port) => `postgres://postgres@${loopback}:${port}/postgres`,
  containerPort: 5432,
  environment: { POSTGRES_HOST_AUTH_METHOD: "trust" },
  command: [],
  programs: ["postgres", "initdb"],
  refusesRoot: true,
  forks: true,
  prepare: (folder) => ["-D", folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
  args: (port, folder) => [
    "-D",
    folder,
    "-p",
    String(port),
    "-c",
    `listen_addresses=${loopback}`,
    "-c",
    "unix_socket_directories=",
    // In the folder: a server that is killed leaves its shared memory behind.
    "-c",
    "dynamic_shared_memory_type=mmap"
  ],
  isReady: answersPostgres
}

const etcd: Store = {
  name: "etcd",
  urlVariable: "ETCD_URL",
  url: (port) => `http://${loopback}:${port}`,
  containerPort: 2379,
  environment: {},
  command: ["etcd", "--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", "http://127.0.0.1:2379"],
  programs: ["etcd"],
  refusesRoot: false,
  forks: false,
  prepare: () => undefined,
  args: (port, folder) => [
    "--data-dir",
    folder,
    "--listen-client-urls",
    `http://${loopback}:${port}`,
    "--advertise-client-urls",
    `http://${loopback}:${port}`,
    "--listen-peer-urls",
    "unix://peer:0",
    "--initial-advertise-peer-urls",
    "unix://peer:0",
    "--initial-cluster",
    "default=unix://peer:0"
  ],
  isReady: (url) =>
    fetch(`${url}/health`, { signal: AbortSignal.timeout(1000) })
      .then((response) => response.ok, () => false)
}

export const stores: Record<StoreName, Store> = { redis, postgres, etcd }

/** Returns the image that docker-compose.yml pins. REDIS_IMAGE, POSTGRES_IMAGE and ETCD_IMAGE name others. */
export const imageOf = (name: StoreName): string => {
  const other = process.env[`${name.toUpperCase()}_IMAGE`]
  if (other) return other
  const compose = readFileSync(new URL("../../docker-compose.yml", import.meta.url), "utf8")
  const image = new RegExp(`^  ${name}:\\n    image: (\\S+)$`, "m").exec(compose)?.[1]
  if (image === undefined) throw new Error(`docker-compose.yml names no image for ${name}`)
  return image
}
