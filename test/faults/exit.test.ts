/** What is left to do for a store in trouble does not hold up the exit of the process. */
import { describe, expect, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const program = fileURLToPath(new URL("../utils/exitProcess.ts", import.meta.url))

describe("a process ends within a second of its work when", () => {
  it.each([
    "the client is closed for good",
    "the store dies",
    "the store fails every release",
    "the store never answers the release"
  ])("%s", async (fault) => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      "--disable-warning=ExperimentalWarning",
      program,
      fault
    ], { timeout: 20_000 })
    const millis = Number(stdout)
    expect(millis).toBeGreaterThan(0)
    expect(millis).toBeLessThan(1000)
  })
})
