import { it } from "@effect/vitest"
import { Effect } from "effect"
import type { Scope } from "effect"
import type { DistributedSemaphoreBacking } from "../../src/index.ts"
import type { Call, Replace } from "./fakeBacking.ts"
import * as FakeBacking from "./fakeBacking.ts"

/** Makes a test in virtual time, over the memory backing with some members replaced. */
export const test = (
  name: string,
  replace: Replace,
  body: (calls: Array<Call>) => Effect.Effect<void, unknown, DistributedSemaphoreBacking | Scope.Scope>
) =>
  it.effect(name, () => {
    const calls: Array<Call> = []
    return Effect.provide(body(calls), FakeBacking.layer(calls, replace))
  })
