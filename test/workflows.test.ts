/** The workflows of CI and of a release say what they must. Nothing here can run them. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, it } from "vitest"
import { parse } from "yaml"

const root = Path.resolve(import.meta.dirname, "..")
const folder = Path.join(root, ".github", "workflows")

interface Step {
  readonly uses?: string
  readonly run?: string
}

interface Job {
  readonly permissions?: Record<string, string>
  readonly strategy?: { readonly matrix: Record<string, ReadonlyArray<unknown>> }
  readonly steps?: ReadonlyArray<Step>
}

interface Workflow {
  readonly permissions: Record<string, string>
  readonly jobs: Record<string, Job>
}

const workflow = (name: string): Workflow => parse(Fs.readFileSync(Path.join(folder, name), "utf8"))
const ci = workflow("ci.yml")
const release = workflow("release.yml")
const stepsOf = ({ jobs }: Workflow) => Object.values(jobs).flatMap(({ steps = [] }) => steps)
const steps = [ci, release].flatMap(stepsOf)

it("every action is pinned to a major version", () => {
  const actions = steps.flatMap(({ uses }) => uses ?? [])
  expect(actions.length).toBeGreaterThan(5)
  expect(actions.filter((action) => !/^[\w-]+\/[\w-]+@v\d+$/.test(action))).toEqual([])
})

it("a workflow may only read, and only the job that publishes may prove its identity", () => {
  expect([ci.permissions, release.permissions]).toEqual([{ contents: "read" }, { contents: "read" }])
  const more = Object.entries({ ...ci.jobs, ...release.jobs }).filter(([, job]) => job.permissions !== undefined)
  expect(more).toMatchObject([["publish", { permissions: { contents: "read", "id-token": "write" } }]])
})

it("CI runs on every supported version of Node and of the stores", () => {
  const named = JSON.stringify(ci.jobs["stores"]!.strategy!.matrix["include"])
  const versions = new Set(Array.from(named.matchAll(/"(?:\w+\/)?(\w+:\d+|v3\.\d)/g), ([, version]) => version))
  expect(Array.from(versions).toSorted()).toEqual([
    ...["14", "15", "16", "17", "18"].map((version) => `postgres:${version}`),
    ...["6", "7", "8"].map((version) => `redis:${version}`),
    "v3.4",
    "v3.5",
    "v3.6",
    "valkey:8"
  ])
  expect(ci.jobs["node"]!.strategy!.matrix["node"]).toEqual([22, 24, 26])
})

it("the scripts and the tests that a workflow names exist", () => {
  const { scripts } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8"))
  const commands = steps.flatMap(({ run }) => run ?? [])
  for (const command of commands) {
    for (const [, script] of command.matchAll(/npm run ([\w:]+)/g)) expect(scripts).toHaveProperty([script!])
    const braces = /^(.*)\{(.*)\}(.*)$/
    const paths = command.split(" ").filter((word) => /^(\.ci|scripts|test)\//.test(word))
    for (const path of paths) {
      const [, before, names, after] = braces.exec(path) ?? [path, path, "", ""]
      for (const name of names!.split(",")) {
        expect(Fs.existsSync(Path.join(root, `${before}${name}${after}`)), path).toBe(true)
      }
    }
  }
})
