/** Finds or starts servers for the tests. If there is none, tests fail: they are never skipped. */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Binary from "./binary.ts"
import * as Docker from "./docker.ts"
import type { Server } from "./server.ts"
import type { Program, Store } from "./stores.ts"

export const ways = ({ name, programs, urlVariable }: Program): string => {
  const shared = urlVariable === undefined ? [] : [
    `a running one, named by ${urlVariable} (docker-compose.yml starts all three)`,
    "Docker, in which the tests start their own"
  ]
  const own = [
    `${programs.join(" and ")} on the PATH`,
    "Debian or Ubuntu and root, where the tests install it by scripts/install-test-servers.sh"
  ]
  const numbered = [...shared, ...own].map((way, index) => `  ${index + 1}. ${way}`)
  return `No ${name} server for the tests. Any of these will do:
${numbered.join(";\n")}.
Tests that freeze or kill a server need one that they start themselves.`
}

const install = fileURLToPath(new URL("../../scripts/install-test-servers.sh", import.meta.url))

const canInstall = () => process.getuid?.() === 0 && existsSync("/usr/bin/apt-get")

/** Starts a server that belongs to the caller: it may be frozen and killed. */
export const startOwn = async (store: Store): Promise<Server> =>
  await Docker.isAvailable() ? Docker.start(store) : startBinary(store)

/** Starts a server from the programs on this machine, which are installed first if that is possible. */
export const startBinary = async (
  program: Program,
  extraArgs: ReadonlyArray<string> = [],
  parent?: string
): Promise<Server> => {
  if (!Binary.isInstalled(program) && canInstall()) {
    console.log(`${program.name} is not on this machine: installing the test servers with apt-get`)
    execFileSync(install, { stdio: ["ignore", "ignore", "inherit"] })
  }
  if (Binary.isInstalled(program)) return Binary.start(program, extraArgs, parent)
  throw new Error(ways(program))
}

/** Returns the URL of a server that all tests share, and how to stop it if it was started for them. */
export const findShared = async (
  store: Store
): Promise<{ readonly url: string; readonly stop: () => Promise<void> }> => {
  const url = process.env[store.urlVariable]
  return url ? { url, stop: async () => {} } : startOwn(store)
}
