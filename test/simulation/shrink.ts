/** Removes from a failing run what it still fails without: users, troubles, fates of requests, and traits of users. */
import type { Core } from "./core.ts"
import * as Globals from "./globals.ts"
import type { Plan, UserPlan } from "./plan.ts"
import type { Result } from "./simulate.ts"
import { simulate } from "./simulate.ts"

const traits = ["interrupt", "timeout", "nested", "looks", "cycles", "stopsKeepAlive"] as const

/** Returns a plan without some of its users, troubles and traits. The network omits fates. */
export const without = (plan: Plan, omitted: ReadonlySet<string>): Plan => ({
  ...plan,
  users: plan.users.filter(({ name }) => !omitted.has(name)).map((user): UserPlan => ({
    ...user,
    interrupt: omitted.has(`${user.name} interrupt`) ? undefined : user.interrupt,
    timeout: omitted.has(`${user.name} timeout`) ? undefined : user.timeout,
    nested: omitted.has(`${user.name} nested`) ? undefined : user.nested,
    looks: user.looks && !omitted.has(`${user.name} looks`),
    cycles: omitted.has(`${user.name} cycles`) ? 1 : user.cycles,
    stopsKeepAlive: user.stopsKeepAlive && !omitted.has(`${user.name} stopsKeepAlive`)
  })),
  troubles: plan.troubles.filter(({ name }) => !omitted.has(name))
})

/** Lists all that can be removed from a plan. Fates are known only once it has run. */
const elementsOf = (plan: Plan): ReadonlyArray<string> => [
  ...plan.users.map(({ name }) => name),
  ...plan.troubles.map(({ name }) => name),
  ...plan.users.flatMap((user) => traits.filter((trait) => user[trait]).map((trait) => `${user.name} ${trait}`))
]

const mostRuns = 400

/** Shrinks a failing run, and returns its story. Each run needs a fresh core: one that fails leaves things behind. */
export const shrink = async (fresh: () => Promise<Core>, plan: Plan): Promise<Result> => {
  const tried: Array<ReadonlySet<string>> = []
  const attempt = async (omitted: ReadonlySet<string>, tells = false) => {
    tried.push(omitted)
    Globals.forget()
    return simulate(await fresh(), without(plan, omitted), omitted, tells)
  }
  const whole = await attempt(new Set())
  let omitted: ReadonlySet<string> = new Set()
  let left = [...elementsOf(plan), ...whole.fates]
  for (let size = Math.ceil(left.length / 2); size >= 1 && tried.length < mostRuns;) {
    let removed = false
    for (let at = 0; at < left.length && tried.length < mostRuns;) {
      const candidate = new Set([...omitted, ...left.slice(at, at + size)])
      const result = await attempt(candidate)
      if (result.violation?.promise === whole.violation?.promise) {
        omitted = candidate
        left = [...left.slice(0, at), ...left.slice(at + size)]
        removed = true
      } else at += size
    }
    // If no single element can be removed either, nothing can.
    if (size === 1 && !removed) break
    size = size === 1 ? 1 : Math.ceil(size / 2)
  }
  return attempt(omitted, true)
}
