/**
 * Installs the packed tarball into an empty folder and uses it as a stranger would: the root entry without ioredis, the suite
 * for backings without vitest, SQLite, the command line without what it needs and with it, then the README's quick start, under every
 * major version of Node that the package supports. Shows what each entry costs a bundle.
 */
import { execFileSync, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"
import { findShared } from "../test/servers/find.ts"
import { stores } from "../test/servers/stores.ts"
import * as Sizes from "./bundle-sizes.ts"

const root = Path.resolve(import.meta.dirname, "..")
const { devDependencies } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8"))
const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "edl-package-"))
const npm = (...args: ReadonlyArray<string>) =>
  execFileSync("npm", args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })

/** The versions of Node, each installed in a folder of its own: the package `node` has the binary. */
const nodes = ["20", "22", "24", "26"].map((major) => {
  const prefix = Path.join(folder, `node-${major}`)
  npm("install", "--silent", "--no-save", "--prefix", prefix, `node@${major}`)
  return Path.join(prefix, "node_modules", "node", "bin", "node")
})
const underEachNode = (file: string, env: Record<string, string> = {}) => {
  for (const node of nodes) {
    const version = execFileSync(node, ["--version"], { encoding: "utf8" }).trim()
    const output = execFileSync(node, [file], {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, ...env },
      timeout: 30_000
    })
    console.log(`${file} under ${version}: ${output.trim()}`)
  }
}

const redis = await findShared(stores.redis)
try {
  const [{ filename }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--pack-destination", folder], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"]
    }).replace(/^[^[]*/, "")
  )
  Fs.writeFileSync(Path.join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }))
  npm("install", "--silent", Path.join(folder, filename), `effect@${devDependencies.effect}`)

  for (const peer of ["ioredis", "@effect/sql-pg", "etcd3", "vitest", "@effect/platform-node"]) {
    if (Fs.existsSync(Path.join(folder, "node_modules", peer))) {
      throw new Error(`${peer} was installed with the package`)
    }
  }
  Fs.writeFileSync(
    Path.join(folder, "root-entry.js"),
    `import * as root from "effect-distributed-lock"; console.log(Object.keys(root).join(" "))\n`
  )
  underEachNode("root-entry.js")

  Fs.writeFileSync(
    Path.join(folder, "suite.js"),
    `import { Effect } from "effect"
    import { MemoryBacking } from "effect-distributed-lock"
    import { casesFor } from "effect-distributed-lock/testing/cases"
    const capabilities = ["queue", "tokens", "push", "inspect", "partialRelease"]
    const options = { layer: MemoryBacking.layer, capabilities, instances: 1, virtualTime: true, sequences: 20, histories: 10 }
    const cases = casesFor(options)
    for (const { run } of cases) await Effect.runPromise(run(options))
    console.log(cases.length, "cases pass")`
  )
  underEachNode("suite.js")

  // An older Node has no SQLite: the import does not fail there, but the layer does, and says why.
  Fs.writeFileSync(
    Path.join(folder, "sqlite.js"),
    `import { Effect } from "effect"
    import { DistributedSemaphore } from "effect-distributed-lock"
    import { SqliteBacking } from "effect-distributed-lock/sqlite"
    const program = Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make("key", { limit: 2 })
      return yield* semaphore.currentCount.pipe(semaphore.withPermits(2))
    })
    const exit = await Effect.runPromiseExit(Effect.provide(program, SqliteBacking.layer({ filename: "semaphores.sqlite" })))
    const [major] = process.versions.node.split(".")
    const expected = major === "20" ? /needs Node 22.13/ : /Success\\(2\\)/
    if (!expected.test(String(exit))) throw new Error(String(exit))
    console.log(String(exit))`
  )
  underEachNode("sqlite.js")

  const installed = Path.join(folder, "node_modules", "effect-distributed-lock")
  for (const size of await Sizes.ofEntries(installed)) console.log(size)

  const bin = Path.join(folder, "node_modules", ".bin", "effect-distributed-lock")
  const commandLine = (store: string, exitCode: number, says: RegExp) => {
    for (const node of nodes) {
      const args = [bin, "run", "--key", "package", "--store", store, "--", "echo", "runs"]
      const { status, stderr, stdout } = spawnSync(node, args, { cwd: folder, encoding: "utf8", timeout: 30_000 })
      if (status !== exitCode || !says.test(stdout + stderr)) throw new Error(`${status}: ${stdout}${stderr}`)
      console.log(`the command line under ${node.match(/node-(\d+)/)![1]}: ${status}, ${(stdout + stderr).trim()}`)
    }
  }
  commandLine(redis.url, 196, /npm install effect @effect\/platform-node/)
  npm("install", "--silent", `@effect/platform-node@${devDependencies["@effect/platform-node"]}`)
  commandLine(redis.url, 196, /npm install ioredis/)

  npm("install", "--silent", `ioredis@${devDependencies.ioredis}`)
  commandLine(redis.url, 0, /^runs\n$/)
  const readme = Fs.readFileSync(Path.join(root, "README.md"), "utf8")
  const quickStart = /## Quick start\n+```ts\n(.*?)^```$/ms.exec(readme)![1]!
  Fs.writeFileSync(Path.join(folder, "quick-start.js"), stripTypeScriptTypes(quickStart))
  underEachNode("quick-start.js", { REDIS_URL: redis.url })
} finally {
  await redis.stop()
  Fs.rmSync(folder, { recursive: true, force: true })
}
