/** Every link of every page leads somewhere: to a file, a folder or a heading of this repository, or to the web. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, it } from "vitest"

const root = Path.resolve(import.meta.dirname, "..")

const filesIn = (folder: string, extension: RegExp): ReadonlyArray<string> =>
  Fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === "node_modules" || entry.name === "dist" || /^\.(?!github)/.test(entry.name)) return []
    const path = Path.join(folder, entry.name)
    return entry.isDirectory() ? filesIn(path, extension) : extension.test(entry.name) ? [path] : []
  })

/** Returns the text of a page without its code, which has neither links nor headings. */
const textOf = (page: string) =>
  Fs.readFileSync(page, "utf8").replaceAll(/^( *)```.*?^\1```$/gms, "").replaceAll(
    /`[^`\n]*`/g,
    (code) => code.replaceAll(/[[\]()#]/g, "")
  )

/** Returns anchors as GitHub makes them: that of the second heading with the same text ends with -1. */
const anchorsOf = (page: string): ReadonlySet<string> => {
  const anchors = new Set<string>()
  for (const [, heading] of textOf(page).matchAll(/^#{1,6} (.*)$/gm)) {
    const slug = heading!
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\p{M} _-]/gu, "")
      .replaceAll(" ", "-")
    let anchor = slug
    for (let n = 1; anchors.has(anchor); n++) anchor = `${slug}-${n}`
    anchors.add(anchor)
  }
  return anchors
}

const pages = filesIn(root, /\.md$/)
const links = pages.flatMap((page) =>
  Array.from(
    textOf(page).matchAll(/\]\(([^)\s]+)\)/g),
    ([, link]) => ({ page: Path.relative(root, page), link: link! })
  )
)

it("every relative link and every anchor of a page leads somewhere", () => {
  expect(links.length).toBeGreaterThan(60)
  const isDead = ({ link, page }: typeof links[number]) => {
    if (/^(https?|mailto):/.test(link)) return false
    const [path, anchor] = link.split("#") as [string, string?]
    const target = path === "" ? Path.join(root, page) : Path.resolve(root, Path.dirname(page), path)
    if (!Fs.existsSync(target)) return true
    return anchor !== undefined && !anchorsOf(target).has(anchor)
  }
  expect(links.filter(isDead)).toEqual([])
})

it("every page that the sources and tests mention exists", () => {
  const mentions = ["src", "test"].flatMap((folder) =>
    filesIn(Path.join(root, folder), /\.ts$/).flatMap((file) =>
      Array.from(
        Fs.readFileSync(file, "utf8").matchAll(/\bdocs\/[\w-]+\.(?:md|sql)\b/g),
        ([mention]) => ({ file, mention })
      )
    )
  )
  expect(mentions.length).toBeGreaterThan(3)
  expect(mentions.filter(({ mention }) => !Fs.existsSync(Path.join(root, mention)))).toEqual([])
})
