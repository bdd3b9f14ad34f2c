/** The suite itself is tested: every broken backing is caught, by the case that is meant to catch it. */
import { Cause, Effect, Exit } from "effect"
import { afterAll, describe, expect, it } from "vitest"
import { backingCases, casesFor } from "../../src/testing/cases.ts"
import type { BackingCase } from "../../src/testing/cases.ts"
import { broken } from "./broken/broken.ts"
import { brokenBackings } from "./broken/index.ts"
import { plain } from "./broken/plain.ts"
import { isLong } from "./runs.ts"

const titleOf = ({ name, rule }: BackingCase) => `${rule}: ${name}`

/** The faults that each case has caught, by its title. */
const caughtBy = new Map(backingCases.map((one) => [titleOf(one), [] as Array<string>]))

describe("the suite catches a broken backing", () => {
  it.each(brokenBackings)("that $fault", async ({ fault, meant, options }) => {
    const failed: Array<string> = []
    for (const one of casesFor(options).filter((one) => isLong || titleOf(one) === meant)) {
      const exit = await Effect.runPromiseExit(one.run({ ...options, sequences: 100, histories: 50 }))
      if (Exit.isFailure(exit)) failed.push(titleOf(one))
    }
    failed.forEach((title) => caughtBy.get(title)!.push(fault))
    expect(failed).toContain(meant)
  })
})

describe("the backing from which many broken ones are made passes:", () => {
  for (const { name, rule, run } of casesFor(plain)) {
    it(`${rule}: ${name}`, () => Effect.runPromise(run({ ...plain, sequences: 100, histories: 50 })))
  }
})

it("a property that failed fails again, in the same way, when it gets what it printed after Replay", async () => {
  const { options } = brokenBackings.find(({ fault }) => fault === "leaks places in line")!
  const sequences = casesFor(options).find(({ rule }) => rule === "B1-B11")!
  const failure = async (replay?: string) => {
    const error = await Effect.runPromise(Effect.flip(Effect.sandbox(sequences.run({ ...options, replay }))))
    return (Cause.squash(error) as Error).message
  }
  const [report, token] = (await failure()).split("\nReplay: ")
  const [again] = (await failure(token)).split("\nReplay: ")
  const steps = (text: string | undefined) => text!.split("\n(run ")[0]!.replaceAll(/token \d+/g, "token")
  expect(report).toContain("\n(run ")
  expect(steps(again)).toBe(steps(report))
})

it("a retryAfter out of bounds is reported with its bound and all that led to it, and without a difference to show", async () => {
  const { options } = brokenBackings.find(({ fault }) => fault === "says that nobody need refresh within the hour")!
  const sequences = casesFor(options).find(({ rule }) => rule === "B1-B11")!
  const error = Cause.squash(await Effect.runPromise(Effect.flip(Effect.sandbox(sequences.run(options)))))
  expect(String(error)).toMatch(/retryAfter of the last answer is 1h, more than .*:\nkey.* asks for .* waits at/s)
  expect(error).not.toHaveProperty("diff")
})

it("a history during which the epoch of the store changed counts for nothing, and is recorded again", async () => {
  let asked = 0
  /** Is another after the first history. */
  const epoch = Effect.sync(() => Math.min(asked++, 1))
  const { options } = broken("B9", "counts too many permits at first", (memory) => ({
    getCount: (key, ttl) => Effect.map(memory.getCount(key, ttl), (count) => asked <= 1 ? count + 1 : count)
  }))
  const histories = casesFor(options).find(({ rule, name }) => rule === "B9" && name.includes("histories"))!
  expect(Exit.isFailure(await Effect.runPromiseExit(histories.run(options)))).toBe(true)
  await Effect.runPromise(histories.run({ ...options, epoch }))
  expect(asked).toBeGreaterThan(2)
})

it("every rule is meant to catch at least one broken backing", () => {
  // The random sequences test all rules at once.
  const rules = new Set(backingCases.map(({ rule }) => rule).filter((rule) => rule !== "B1-B11"))
  expect(new Set(brokenBackings.map(({ meant }) => meant.split(":")[0]!))).toEqual(rules)
})

// Only the long run tries all cases on all broken backings.
if (isLong) {
  afterAll(() => {
    console.log("Which case catches which broken backing (* is meant to):")
    for (const [title, faults] of caughtBy) {
      const marked = faults.map((fault) =>
        brokenBackings.some((broken) => broken.fault === fault && broken.meant === title) ? `*${fault}` : fault
      )
      console.log(`${title}\n    ${marked.toSorted().join(", ") || "(none)"}`)
    }
  })
}
