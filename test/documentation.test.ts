/**
 * Every example that a reader meets compiles against the built package, and runs: those of the README, of docs/, of the
 * sources, and examples/.
 */
import { execFile, execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { promisify } from "node:util"
import { beforeAll, expect, inject, it } from "vitest"

const root = Path.resolve(import.meta.dirname, "..")
const folder = Path.join(root, ".tmp", "documentation")

interface Example {
  readonly name: string
  readonly file: string
}

const blocksIn = (file: string): ReadonlyArray<Example> => {
  const text = Fs.readFileSync(file, "utf8").replace(/^ \* ?/gm, "")
  return Array.from(text.matchAll(/^```ts\n(.*?)^```$/gms), ([, code], index) => {
    const name = `${Path.relative(root, file)}, block ${index + 1}`
    const target = Path.join(folder, `${name.replaceAll(/[^\w]+/g, "-")}.ts`)
    Fs.writeFileSync(target, code!)
    return { name, file: target }
  })
}

const filesIn = (directory: string, extension = ".ts") =>
  Fs.readdirSync(Path.join(root, directory), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(extension) && !file.endsWith(".test.ts"))
    .map((file) => Path.join(root, directory, file))
    .toSorted()

Fs.rmSync(folder, { recursive: true, force: true })
Fs.mkdirSync(folder, { recursive: true })
const pages = [Path.join(root, "README.md"), ...filesIn("docs", ".md")]
const blocks = [...pages, ...filesIn("src")].flatMap(blocksIn)
const examples = filesIn("examples").map((file) => ({ name: Path.relative(root, file), file }))

beforeAll(() => {
  execFileSync("npm", ["run", "build"], { cwd: root, stdio: "pipe" })
})

it("the examples of the README, of the sources and of examples/ are found", () => {
  expect(blocks.filter(({ name }) => name.startsWith("README.md")).length).toBeGreaterThanOrEqual(6)
  expect(blocks.filter(({ name }) => name.startsWith("src")).length).toBeGreaterThanOrEqual(3)
  expect(examples.map(({ name }) => Path.basename(name, ".ts"))).toEqual(
    expect.arrayContaining(["quick-start", "crash-recovery", "hand-off", "fencing", "custom-backing", "observability"])
  )
})

it("the pages show files of examples/ as they are", () => {
  const shown = pages.flatMap((page) =>
    Array.from(
      Fs.readFileSync(page, "utf8").matchAll(/^```ts title="([^"]*)"\n(.*?)^```$/gms),
      ([, file, code]) => ({ file, code })
    )
  )
  expect(shown.length).toBeGreaterThanOrEqual(2)
  for (const { code, file } of shown) expect(code).toBe(Fs.readFileSync(Path.join(root, file!), "utf8"))
})

it("all examples compile", () => {
  const config = Path.join(folder, "tsconfig.json")
  // Without `paths`, the package resolves to what was built.
  Fs.writeFileSync(
    config,
    JSON.stringify({
      extends: "../../tsconfig.json",
      compilerOptions: { paths: {} },
      include: ["*.ts", "../../examples"]
    })
  )
  try {
    execFileSync("npx", ["tsc", "-p", config], { cwd: root, encoding: "utf8" })
  } catch (error) {
    expect.fail((error as { readonly stdout: string }).stdout)
  }
})

/** What examples must print, if that is their point. */
const printed: Record<string, ReadonlyArray<string>> = {
  "examples/crash-recovery.ts": ["ended by SIGKILL", "meanwhile: false", "resumed where the first run was killed"],
  "examples/hand-off.ts": ["the second process goes on", "permits held at the end: 0"],
  "examples/fencing.ts": [
    "the next holder writes: written",
    "the paused holder writes: refused",
    "and then learns",
    "the file says: from the present"
  ],
  "examples/custom-backing.ts": ["Barbara has used a licence", "licences in use: 0"],
  "examples/quick-start.ts": ["five is done"],
  "examples/observability.ts": [
    "/metrics",
    "distributed_semaphore_permits_acquired_total{key=\"gpus\"}",
    "distributed_semaphore_permits_held{key=\"gpus\"} 0",
    "distributed_semaphore_waiters{key=\"gpus\"} 0"
  ]
}

/** Runs Node in the root, with the stores of this run, and returns what it prints. */
const node = async (...args: ReadonlyArray<string>) => {
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    cwd: root,
    env: {
      ...process.env,
      TMPDIR: folder,
      REDIS_URL: inject("redisUrl"),
      POSTGRES_URL: inject("postgresUrl"),
      ETCD_URL: inject("etcdUrl")
    },
    timeout: 30_000
  })
  return stdout
}

it("all blocks run, and end", async () => {
  // One after the other in one process: most of the time of each would go into loading Effect.
  const imports = blocks.map(({ file }) => `await import(${JSON.stringify(file)})`)
  await node("--input-type=module", "--eval", imports.join("\n"))
})

it.each(examples)("$name runs", async ({ file, name }) => {
  const stdout = await node(file)
  for (const text of printed[name] ?? []) expect(stdout).toContain(text)
})
