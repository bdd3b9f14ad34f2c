/** What goes wrong with the store and with processes, as planned. */
import type { Trouble } from "./plan.ts"
import type { Run } from "./simulate.ts"

/** The ends of the troubles under way, in the order in which they began. */
const underWay = new WeakMap<Run, Set<() => void>>()

export const endAll = (run: Run): void => {
  for (const end of underWay.get(run) ?? []) end()
}

export const begin = (run: Run, trouble: Trouble): void => {
  const { world } = run
  world.coverage.count(`trouble: ${trouble.kind}`)
  world.tell(() => `trouble ${trouble.name}: ${describe(trouble)}`)
  const end = happen(run, trouble)
  if (end === undefined) return
  const ends = underWay.get(run) ?? new Set()
  underWay.set(run, ends)
  const once = () => {
    if (!ends.delete(once)) return
    world.tell(() => `trouble ${trouble.name} ends`)
    end()
  }
  ends.add(once)
  world.after(trouble.lasts, undefined, once)
}

/** Makes a trouble happen. Returns how to end it. */
const happen = (run: Run, trouble: Trouble): (() => void) | undefined => {
  const { checker, links, network, processes, store } = run
  const { kind, lasts } = trouble
  switch (kind) {
    case "freeze":
      checker.touchAll("the store is frozen")
      network.frozen = true
      return () => {
        checker.touchAll("the store was frozen")
        network.thaw()
      }
    case "forget":
      return void store.forget(store.keys)
    case "restart": {
      checker.touchAll("the store restarts")
      network.disconnect()
      network.down = trouble.hangs ? "hangs" : "refuses"
      if (trouble.forgets) store.forget(store.keys)
      for (const link of links) link.fall(lasts)
      return () => {
        checker.touchAll("the store was down")
        network.down = undefined
      }
    }
    case "shard":
      checker.touchAll("its part of the store is down", ({ key }) => key === trouble.key)
      network.broken.add(trouble.key)
      return () => {
        checker.touchAll("its part of the store was down", ({ key }) => key === trouble.key)
        network.broken.delete(trouble.key)
      }
    case "revoke":
      return void store.forget([trouble.key])
    case "unsubscribe":
      return void links[trouble.process]!.fall(lasts)
    case "jump":
      processes[trouble.process]!.disturbedUntil = run.world.now
      processes[trouble.process]!.clock.jump(visible(run, trouble))
      return void checker.touchAll("its clock jumped", ({ process }) => process === processes[trouble.process])
    case "leap":
      processes[trouble.process]!.disturbedUntil = run.world.now
      processes[trouble.process]!.clock.leap(trouble.by)
      return void checker.touchAll("its clock leapt", ({ process }) => process === processes[trouble.process])
    case "drift":
      return void processes[trouble.process]!.clock.drift(trouble.by)
    case "dispose": {
      const process = processes[trouble.process]!
      run.disposed.add(process)
      for (const user of run.users) if (user.process === process) user.interrupt()
      return undefined
    }
    default:
      return disturb(run, trouble)
  }
}

/** Pauses, suspends, kills or cuts off a process. Returns how to end that. */
const disturb = (run: Run, trouble: Trouble & { readonly process: number }): (() => void) | undefined => {
  const { checker, network } = run
  const process = run.processes[trouble.process]!
  const isOfProcess = (use: { readonly process: unknown }) => use.process === process
  if (process.state !== "runs") return undefined
  checker.touchAll(`its process has trouble: ${trouble.kind}`, isOfProcess)
  switch (trouble.kind) {
    case "die":
      checker.bury(process)
      process.die()
      return undefined
    case "cut":
      network.cut.add(process)
      return () => {
        checker.touchAll("its process was cut off", isOfProcess)
        network.cut.delete(process)
      }
    default: {
      const suspends = trouble.kind === "suspend"
      if (suspends) process.suspend()
      else process.pause()
      return () => {
        checker.touchAll("its process was paused", isOfProcess)
        if (suspends) process.wakeUp()
        else process.resume()
        checker.resumed(process)
      }
    }
  }
}

const describe = ({ at: _at, name: _name, ...trouble }: Trouble) => JSON.stringify(trouble)

/** Returns a jump that hides no sleep: no core could notice one if the wall clock were set back meanwhile. */
const visible = (
  { plan: { troubles } }: Run,
  { by, process }: Trouble & { readonly kind: "jump" | "leap" | "drift" }
) => troubles.some((other) => other.kind === "suspend" && other.process === process) ? Math.abs(by) : by
