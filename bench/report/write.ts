/** Writes what a run leaves. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { StoreName } from "../subjects/subject.ts"
import { page } from "./pages.ts"
import { plots } from "./plots.ts"
import * as Readme from "./readme.ts"
import type { Results } from "./results.ts"

/** The folder of the results that the README shows. */
export const shown = Path.join(import.meta.dirname, "..", "results")
const readme = Path.join(import.meta.dirname, "..", "..", "README.md")

export const read = (file: string): Results => JSON.parse(Fs.readFileSync(file, "utf8"))

export const write = async (results: Results, folder: string): Promise<void> => {
  Fs.mkdirSync(folder, { recursive: true })
  // Five digits are more than any measure is worth.
  const brief = (_: string, value: unknown) => typeof value === "number" ? Number(value.toPrecision(5)) : value
  const file = Path.join(folder, "results.json")
  Fs.writeFileSync(file, JSON.stringify(results, brief, 1) + "\n")
  await writeReport(read(file), folder)
}

/** Writes the pages and the plots, and the README's section, if these are the results that it shows. */
export const writeReport = async (results: Results, folder: string): Promise<void> => {
  const stores = new Set(results.rows.map(({ row }): StoreName => row.store))
  for (const store of stores) {
    Fs.writeFileSync(Path.join(folder, `${store}.md`), page(results, store))
    for (const [name, svg] of Object.entries(await plots(results, store))) {
      Fs.writeFileSync(Path.join(folder, `${name}.svg`), svg)
    }
  }
  if (folder === shown) Fs.writeFileSync(readme, Readme.update(Fs.readFileSync(readme, "utf8"), results))
}
