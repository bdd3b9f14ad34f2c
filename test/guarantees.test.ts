/** docs/guarantees.md says what each letter of a promise means that the repository mentions. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, it } from "vitest"
import { backingCases } from "../src/testing/cases.ts"

const root = Path.resolve(import.meta.dirname, "..")
const page = Path.join(root, "docs", "guarantees.md")
const text = Fs.readFileSync(page, "utf8")
const defined = new Set(Array.from(text.matchAll(/^### ([SLCB]\d+) \S/gm), ([, letter]) => letter!))

const files = [
  "README.md",
  "CHANGELOG.md",
  ...["src", "test", "docs", "examples", "demo"].flatMap((folder) =>
    Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => /\.(ts|md|sql)$/.test(file))
      .map((file) => Path.join(folder, file))
  )
]

const met = files.flatMap((file) =>
  Array.from(
    Fs.readFileSync(Path.join(root, file), "utf8").matchAll(/(?<![\w$."'`/-])([SLCB]\d{1,2})\b(?!["'`])/g),
    ([, letter]) => ({ file, letter: letter! })
  )
)

it("every letter of a promise that the repository mentions is defined", () => {
  expect(met.length).toBeGreaterThan(200)
  expect(met.filter(({ letter }) => !defined.has(letter))).toEqual([])
})

it("every rule of the contract is defined, and shown by a case", () => {
  const rules = backingCases.flatMap(({ rule }) => rule.split("-"))
  expect(rules.filter((rule) => !defined.has(rule))).toEqual([])
  expect([...defined].filter((letter) => letter.startsWith("B") && !rules.includes(letter))).toEqual([])
})

it("every promise is defined once, and everything that shows one exists", () => {
  expect(defined.size).toBe(5 + 4 + 5 + 13)
  expect(text.match(/^### [SLCB]\d+ /gm)).toHaveLength(defined.size)
  const links = Array.from(text.matchAll(/\]\((\.[^)#]*)\)/g), ([, link]) => link!)
  expect(links.length).toBeGreaterThan(15)
  expect(links.filter((link) => !Fs.existsSync(Path.resolve(Path.dirname(page), link)))).toEqual([])
})
