/**
 * The machine, as far as the runtime and the core see it. Tasks that they put off go to the process that runs, random
 * identifiers come from the user that asks, and no real timer is set.
 */
import { Context, Fiber } from "effect"
import { Uuid } from "./users.ts"
import type { World } from "./world.ts"

/** The timers that keep the machine's process alive, and whether they do so now. */
const timers = new Set<{ awake: boolean }>()

const setInterval = () => {
  const timer = {
    awake: true,
    ref: () => {
      timer.awake = true
      return timer
    },
    unref: () => {
      timer.awake = false
      return timer
    }
  }
  timers.add(timer)
  return timer
}

const refuse = (name: string) => () => {
  throw new Error(`${name} is not in virtual time`)
}

/** Returns whether something keeps the process alive. */
export const isAwake = (): boolean => Array.from(timers).some(({ awake }) => awake)

/** Forgets the timers of a run that failed: its core is not used again. */
export const forget = (): void => timers.clear()

/** Runs with the globals replaced. */
export const replaced = (world: World, run: () => void): void => {
  const own = {
    setImmediate: (task: () => void) => world.current!.enqueue(task),
    setInterval,
    setTimeout: refuse("setTimeout")
  }
  const before = Object.fromEntries(Object.keys(own).map((name) => [name, globalThis[name as keyof typeof own]]))
  const { random } = Math
  const { now } = Date
  const { randomUUID } = crypto
  Object.assign(globalThis, own)
  // The runtime hashes with it. Nothing depends on these hashes.
  Math.random = () => 0.5
  Date.now = refuse("Date.now")
  crypto.randomUUID = (() => Context.get(Fiber.getCurrent()!.context, Uuid)) as typeof randomUUID
  try {
    run()
  } finally {
    Object.assign(globalThis, before)
    Object.assign(Math, { random })
    Date.now = now
    crypto.randomUUID = randomUUID
  }
}
