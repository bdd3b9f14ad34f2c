import type { ScenarioName } from "../subjects/subject.ts"
import { cycle, keys } from "./cycle.ts"
import { drain, loop } from "./handOff.ts"
import { idleHolds, idleWaiters } from "./idle.ts"
import { mixed } from "./mixed.ts"
import { crash, processes } from "./processes.ts"
import { holders, permits } from "./scale.ts"
import type { Scenario } from "./scenario.ts"

export const scenarios: Readonly<Record<ScenarioName, Scenario>> = {
  cycle,
  drain,
  loop,
  mixed,
  idleHolds,
  idleWaiters,
  crash,
  permits,
  holders,
  keys,
  processes
}
