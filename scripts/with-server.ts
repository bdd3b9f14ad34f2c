/**
 * Runs a command with the URL of a server in the environment (REDIS_URL, POSTGRES_URL or ETCD_URL). It finds the server as the tests
 * find theirs. The first argument is the name of the store.
 */
import { spawnSync } from "node:child_process"
import { findShared } from "../test/servers/find.ts"
import { stores } from "../test/servers/stores.ts"

const [name, command, ...args] = process.argv.slice(2)
const store = stores[name as keyof typeof stores]
const server = await findShared(store)
const env = { ...process.env, [store.urlVariable]: server.url }
const { status } = spawnSync(command!, args, { stdio: "inherit", env })
await server.stop()
process.exitCode = status ?? 1
