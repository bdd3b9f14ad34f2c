/**
 * Measures what importing an entry of the package costs: bundled, minified and compressed, without the packages that it imports. The
 * bundler comes with Vitest.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { gzipSync } from "node:zlib"
import { rolldown } from "rolldown"

/** How many kB each entry may have at most, and what it may import besides Effect and Node. None may contain the command line. */
const allowed: Record<string, { readonly most: number; readonly imports?: RegExp }> = {
  ".": { most: 25 },
  "./memory": { most: 5 },
  "./redis": { most: 12 },
  "./postgres": { most: 18, imports: /^@effect\/sql-pg$/ },
  "./etcd": { most: 15, imports: /^etcd3$/ },
  "./sqlite": { most: 12 },
  "./testing": { most: 40, imports: /^vitest$/ },
  "./testing/cases": { most: 40 }
}

const effectAndNode = /^(effect(\/.*)?|node:.*)$/

const isExternal = (id: string): boolean => !id.startsWith(".") && !Path.isAbsolute(id)

/** Bundles each entry of the package in a folder, and returns a line for each. Throws if one has more than it may. */
export const ofEntries = async (folder: string): Promise<ReadonlyArray<string>> => {
  const { exports } = JSON.parse(Fs.readFileSync(Path.join(folder, "package.json"), "utf8"))
  const lines: Array<string> = []
  for (const [entry, file] of Object.entries<string>(exports)) {
    if (entry === "./package.json") continue
    const bundle = await rolldown({ input: Path.join(folder, file), external: isExternal })
    const { output: [chunk] } = await bundle.generate({ format: "esm", minify: true, codeSplitting: false })
    await bundle.close()
    const size = gzipSync(chunk.code).length / 1000
    const { imports = /^$/, most } = allowed[entry]!
    const line = `${entry}: ${size.toFixed(1)} kB, of ${chunk.moduleIds.length} files`
    const unwelcome = [
      ...chunk.moduleIds.filter((id) => id.includes("/dist/cli/")),
      ...[...chunk.imports, ...chunk.dynamicImports].filter((id) => !effectAndNode.test(id) && !imports.test(id))
    ]
    if (unwelcome.length > 0) throw new Error(`${entry} must not import ${unwelcome.join(", ")}`)
    if (size > most) throw new Error(`${line}, but at most ${most} kB are allowed`)
    lines.push(line)
  }
  return lines
}
