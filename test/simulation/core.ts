/**
 * Builds of the core: the real one, and copies in which one snippet is replaced. Each is loaded anew, so that nothing
 * that a run leaves in its modules reaches another build.
 */
import { readFileSync } from "node:fs"
import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"

export interface Core {
  readonly name: string
  readonly DistributedSemaphore: typeof import("../../src/core/DistributedSemaphore.ts")
  readonly Backing: typeof import("../../src/core/Backing.ts")
  readonly Keeper: typeof import("../../src/core/internal/keeper.ts").Keeper
  readonly Lease: typeof import("../../src/core/Lease.ts").Lease
}

/** A snippet of a file of src/core, and what stands in its place. */
export interface Patch {
  readonly file: string
  readonly find: string
  readonly replace: string
}

const source = new URL("../../src/core/", import.meta.url).href

const patches = new Map<string, ReadonlyArray<Patch>>()
let builds = 0

const buildIn = (url: string | undefined) => url?.startsWith(source) ? /\?build=(\d+)$/.exec(url)?.[1] : undefined

registerHooks({
  resolve: (specifier, context, next) => {
    const resolved = next(specifier, context)
    const build = buildIn(context.parentURL)
    if (build === undefined || !resolved.url.startsWith(source) || resolved.url.includes("?")) return resolved
    return { ...resolved, url: `${resolved.url}?build=${build}` }
  },
  load: (url, context, next) => {
    const build = buildIn(url)
    const path = url.slice(source.length).replace(/\?.*$/, "")
    const own = build === undefined ? [] : patches.get(build)!.filter(({ file }) => file === path)
    if (own.length === 0) return next(url, context)
    const text = readFileSync(fileURLToPath(url.replace(/\?.*$/, "")), "utf8")
    const patched = own.reduce((text, { find, replace }) => text.replace(find, () => replace), text)
    return { ...next(url, context), source: patched, shortCircuit: true, format: "module-typescript" }
  }
})

/** Loads a build. A patch must apply exactly once. */
export const load = async (name: string, own: ReadonlyArray<Patch> = []): Promise<Core> => {
  for (const { file, find } of own) {
    const found = readFileSync(new URL(file, source), "utf8").split(find).length - 1
    if (found !== 1) throw new Error(`"${name}" no longer applies: src/core/${file} has its snippet ${found} times`)
  }
  const build = String(++builds)
  patches.set(build, own)
  const from = (file: string) => import(`${source}${file}?build=${build}`)
  return {
    name,
    DistributedSemaphore: await from("DistributedSemaphore.ts"),
    Backing: await from("Backing.ts"),
    Keeper: (await from("internal/keeper.ts")).Keeper,
    Lease: (await from("Lease.ts")).Lease
  }
}
