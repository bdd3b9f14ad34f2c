/** The diagrams of the pages, read by Mermaid itself, as GitHub does. */
import { Window } from "happy-dom"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")

const pages = [
  "README.md",
  "CONTRIBUTING.md",
  ...Fs.readdirSync(Path.join(root, "docs")).filter((file) => file.endsWith(".md")).map((file) => `docs/${file}`)
]

const diagrams = pages.flatMap((page) =>
  Array.from(
    Fs.readFileSync(Path.join(root, page), "utf8").matchAll(/^```mermaid\n(.*?)^```$/gms),
    ([, text], index) => ({ name: `${page}, diagram ${index + 1}`, text: text! })
  )
)

/** Says which diagrams do not parse. Mermaid sanitizes labels by a DOM, even where it draws nothing. */
export const brokenDiagrams = async (): Promise<ReadonlyArray<string>> => {
  if (diagrams.length === 0) return ["No page has a diagram any more"]
  const window = new Window()
  Object.assign(globalThis, { window, document: window.document, Element: window.Element })
  const { default: mermaid } = await import("mermaid")
  const broken: Array<string> = []
  for (const { name, text } of diagrams) {
    await mermaid.parse(text).catch((error: Error) => broken.push(`${name}: ${error.message}`))
  }
  await window.happyDOM.close()
  return broken
}
