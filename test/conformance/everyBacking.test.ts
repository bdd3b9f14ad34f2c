import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, it } from "vitest"

const backings = Path.resolve(import.meta.dirname, "../../src/backings")

it.each(Fs.readdirSync(backings).filter((name) => name !== "internal"))(
  "the suite tests the backing %s",
  (name) => {
    const file = Path.join(import.meta.dirname, `${name}.test.ts`)
    expect(Fs.existsSync(file), `${file} is missing`).toBe(true)
    const text = Fs.readFileSync(file, "utf8")
    expect(text).toContain("backingSuite(")
    expect(text).toContain("from \"../../src/testing/index.ts\"")
    expect(text).toMatch(new RegExp(`\\b${name}Backing\\.layer`, "i"))
  }
)
