/** What keeps a process alive, and what does not. */
import { describe, expect, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const run = async (program: string, argument: string) => {
  const file = fileURLToPath(new URL(`../utils/${program}`, import.meta.url))
  const args = ["--disable-warning=ExperimentalWarning", file, argument]
  return (await promisify(execFile)(process.execPath, args, { timeout: 20_000 })).stdout
}

describe("a process ends within a second of its work when", { concurrent: true }, () => {
  it.each([
    "the client is closed for good",
    "the store dies",
    "the store fails every release",
    "the store never answers the release"
  ])("%s", async (fault) => {
    const millis = Number(await run("exitProcess.ts", fault))
    expect(millis).toBeGreaterThan(0)
    expect(millis).toBeLessThan(1000)
  })
})

describe("a process stays alive exactly as long as it waits for", { concurrent: true }, () => {
  it.each([
    "permits of a store that is polled",
    "the lease of a holder that has crashed",
    "an identifier in use",
    "an acquire that is never answered",
    "a release that is never answered"
  ])("%s", async (wait) => {
    expect(await run("waitProcess.ts", wait)).toBe("done")
  })
})
