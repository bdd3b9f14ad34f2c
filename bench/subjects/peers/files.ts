/** Locks that processes of one machine share through files. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { lock } from "proper-lockfile"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"

/** The shortest `stale` time that proper-lockfile accepts. */
const leastStaleMillis = 2000

export const properLockfile = async ({ ttlMillis, url }: Setting): Promise<Client> =>
  promiseClient(({ key }) =>
    lock(`${url}-${key}`, {
      realpath: false,
      stale: Math.max(ttlMillis, leastStaleMillis),
      retries: { forever: true, factor: 1, minTimeout: 10, maxTimeout: 10, randomize: true }
    })
  )

/** How many callers at once: each is a process. */
const mostAtOnce = 200

export const flock = async ({ callers, url }: Setting): Promise<Client> => {
  if (callers > mostAtOnce) throw new Error(`not tried with more than ${mostAtOnce} processes at once`)
  return promiseClient(async ({ key }) => {
    const holder = spawn("flock", [`${url}-${key}`, "sh", "-c", "echo; exec cat"], {
      stdio: ["pipe", "pipe", "ignore"]
    })
    await once(holder.stdout, "data")
    return async () => {
      holder.stdin.end()
      await once(holder, "exit")
    }
  })
}
