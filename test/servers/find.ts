/** Where servers for the tests come from, in this order. A server that can't be had is never skipped. */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Binary from "./binary.ts"
import * as Docker from "./docker.ts"
import type { Server } from "./server.ts"
import type { Store } from "./stores.ts"

export const ways = (store: Store): string =>
  `No ${store.name} server for the tests. Any of these will do:
  1. a running one, named by ${store.urlVariable} (docker-compose.yml starts all three);
  2. Docker, in which the tests start their own;
  3. ${store.programs.join(" and ")} on the PATH;
  4. Debian or Ubuntu and root, where the tests install it by scripts/install-test-servers.sh.
Tests that freeze or kill a server need one of the last three.`

const install = fileURLToPath(new URL("../../scripts/install-test-servers.sh", import.meta.url))

const canInstall = () => process.getuid?.() === 0 && existsSync("/usr/bin/apt-get")

/** Starts a server that belongs to the caller: it may be frozen and killed. */
export const startOwn = async (store: Store): Promise<Server> =>
  await Docker.isAvailable() ? Docker.start(store) : startBinary(store)

/** From the programs on this machine, which are installed if that is possible. */
export const startBinary = async (store: Store, extraArgs: ReadonlyArray<string> = []): Promise<Server> => {
  if (!Binary.isInstalled(store) && canInstall()) {
    console.log(`${store.name} is not on this machine: installing the test servers with apt-get`)
    execFileSync(install, { stdio: ["ignore", "ignore", "inherit"] })
  }
  if (Binary.isInstalled(store)) return Binary.start(store, extraArgs)
  throw new Error(ways(store))
}

/** The URL of a server that all tests share, and how to end it if it was started for them. */
export const findShared = async (
  store: Store
): Promise<{ readonly url: string; readonly stop: () => Promise<void> }> => {
  const url = process.env[store.urlVariable]
  return url ? { url, stop: async () => {} } : startOwn(store)
}
