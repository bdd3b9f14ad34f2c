/** Runs a command with REDIS_URL set to a server that is found as the tests find theirs. */
import { spawnSync } from "node:child_process"
import { findShared } from "../test/servers/find.ts"
import { stores } from "../test/servers/stores.ts"

const [command, ...args] = process.argv.slice(2)
const redis = await findShared(stores.redis)
const { status } = spawnSync(command!, args, { stdio: "inherit", env: { ...process.env, REDIS_URL: redis.url } })
await redis.stop()
process.exitCode = status ?? 1
