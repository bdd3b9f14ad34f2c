/** Runs the simulation in processes of its own, because it replaces timers and random numbers. */
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"

const main = fileURLToPath(new URL("main.ts", import.meta.url))

/**
 * Returns the first fresh seed, which follows from the sources. So each change of the core, or of the simulation, meets
 * new seeds, and what fails once fails again.
 */
const fresh = (): string => {
  const digest = createHash("sha256")
  for (const folder of [import.meta.dirname, Path.resolve(import.meta.dirname, "../../src/core")]) {
    for (const file of Fs.readdirSync(folder, { recursive: true, encoding: "utf8" }).toSorted()) {
      if (file.endsWith(".ts")) digest.update(Fs.readFileSync(Path.join(folder, file)))
    }
  }
  return String(digest.digest().readUIntBE(0, 5))
}

/** Runs the simulation. Returns what it prints, and whether it found what it should, and nothing else. */
const run = (...args: ReadonlyArray<string>): Promise<{ readonly output: string; readonly ok: boolean }> =>
  new Promise((resolve) =>
    execFile(
      process.execPath,
      [main, ...args],
      { maxBuffer: 1e8 },
      (error, stdout, stderr) => resolve({ output: stdout + stderr, ok: error === null })
    )
  )

describe("the real core, over a store that does its worst", () => {
  it("keeps its promises, with all seeds that ever failed and with fresh ones", async () => {
    const { ok, output } = await run("--runs", "500", "--from", fresh())
    console.log(output)
    expect(ok, output.slice(-5000)).toBe(true)
    expect(Number(/(\d+) runs/.exec(output)?.[1])).toBeGreaterThan(500)
  }, 180_000)

  it("breaks a promise with each of the planted faults", async () => {
    const { ok, output } = await run("--planted")
    console.log(output)
    expect(ok, output).toBe(true)
  }, 600_000)

  it("does the same again with the same seed", async () => {
    const [first, second] = await Promise.all([run("--seed", "7"), run("--seed", "7")])
    expect(first.output).toBe(second.output)
    expect(first.output.split("\n").length).toBeGreaterThan(20)
  }, 60_000)
})
