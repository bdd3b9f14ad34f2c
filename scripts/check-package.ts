/**
 * Installs the packed tarball into an empty folder and uses it as a stranger would: the root entry without ioredis, the suite
 * for backings without vitest, SQLite, the command line without what it needs and with it, then the README's quick start, under every
 * major version of Node that the package supports. Shows what each entry costs a bundle.
 */
import { execFile, execFileSync } from "node:child_process"
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

interface Outcome {
  readonly exitCode: number
  /** Of both kinds. */
  readonly output: string
}

const run = (file: string, args: ReadonlyArray<string>, env: Record<string, string> = {}): Promise<Outcome> =>
  new Promise((resolve) => {
    const options = { cwd: folder, env: { ...process.env, ...env }, timeout: 120_000 }
    const child = execFile(file, args, options, (_, stdout, stderr) => {
      resolve({ exitCode: child.exitCode ?? -1, output: (stdout + stderr).trim() })
    })
  })

const npm = async (...args: ReadonlyArray<string>) => {
  const { exitCode, output } = await run("npm", args)
  if (exitCode !== 0) throw new Error(`npm ${args.join(" ")}: ${output}`)
}

/** The versions of Node: this one, and others, each installed in a folder of its own. The package `node` has the binary. */
const nodes = await Promise.all(["20", "22", "24", "26"].map(async (major) => {
  if (process.version.startsWith(`v${major}.`)) return { major, binary: process.execPath }
  const prefix = Path.join(folder, `node-${major}`)
  await npm("install", "--silent", "--no-save", "--prefix", prefix, `node@${major}`)
  return { major, binary: Path.join(prefix, "node_modules", "node", "bin", "node") }
}))

/** Runs something under each Node, all at the same time, and shows what they print, in order. */
const underEachNode = async (
  name: string,
  args: ReadonlyArray<string>,
  isRight: (outcome: Outcome) => boolean,
  env: Record<string, string> = {}
) => {
  const outcomes = await Promise.all(nodes.map(({ binary }) => run(binary, args, env)))
  for (const [index, { major }] of nodes.entries()) {
    const { exitCode, output } = outcomes[index]!
    console.log(`${name} under Node ${major}: ${exitCode}, ${output}`)
    if (!isRight(outcomes[index]!)) throw new Error(`${name} under Node ${major} is not right`)
  }
}
const succeeds = ({ exitCode }: Outcome) => exitCode === 0

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
  await npm("install", "--silent", Path.join(folder, filename), `effect@${devDependencies.effect}`)

  for (const peer of ["ioredis", "@effect/sql-pg", "etcd3", "vitest", "@effect/platform-node"]) {
    if (Fs.existsSync(Path.join(folder, "node_modules", peer))) {
      throw new Error(`${peer} was installed with the package`)
    }
  }
  Fs.writeFileSync(
    Path.join(folder, "root-entry.js"),
    `import * as root from "effect-distributed-lock"; console.log(Object.keys(root).join(" "))\n`
  )
  await underEachNode("The root entry", ["root-entry.js"], succeeds)

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
  await underEachNode("The suite", ["suite.js"], succeeds)

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
  await underEachNode("SQLite", ["sqlite.js"], succeeds)

  const installed = Path.join(folder, "node_modules", "effect-distributed-lock")
  for (const size of await Sizes.ofEntries(installed)) console.log(size)

  const bin = Path.join(folder, "node_modules", ".bin", "effect-distributed-lock")
  const commandLine = (exitCode: number, says: RegExp) =>
    underEachNode(
      "The command line",
      [bin, "run", "--key", "package", "--limit", String(nodes.length), "--store", redis.url, "--", "echo", "runs"],
      (outcome) => outcome.exitCode === exitCode && says.test(outcome.output)
    )
  await commandLine(196, /npm install effect @effect\/platform-node/)
  await npm("install", "--silent", `@effect/platform-node@${devDependencies["@effect/platform-node"]}`)
  await commandLine(196, /npm install ioredis/)

  await npm("install", "--silent", `ioredis@${devDependencies.ioredis}`)
  await commandLine(0, /^runs$/)
  const readme = Fs.readFileSync(Path.join(root, "README.md"), "utf8")
  const quickStart = /## Quick start\n+```ts\n(.*?)^```$/ms.exec(readme)![1]!
  Fs.writeFileSync(Path.join(folder, "quick-start.js"), stripTypeScriptTypes(quickStart))
  await underEachNode("The quick start", ["quick-start.js"], succeeds, { REDIS_URL: redis.url })
} finally {
  await redis.stop()
  Fs.rmSync(folder, { recursive: true, force: true })
}
