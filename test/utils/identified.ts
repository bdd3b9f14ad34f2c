/** Tests of what acquisitions under one identifier do to each other. */
import { it } from "@effect/vitest"
import { Effect } from "effect"
import type { Scope } from "effect"
import { DistributedSemaphore } from "../../src/index.ts"
import type { Call } from "./fakeBacking.ts"
import * as FakeBacking from "./fakeBacking.ts"

export const named = { identifier: "cron" }

/** Makes a test in virtual time, over the memory backing. The semaphore has a limit of 2. */
export const test = (
  name: string,
  body: (
    semaphore: DistributedSemaphore.DistributedSemaphore,
    calls: Array<Call>
  ) => Effect.Effect<void, unknown, Scope.Scope>
) =>
  it.effect(name, () => {
    const calls: Array<Call> = []
    return Effect.flatMap(DistributedSemaphore.make("key", { limit: 2 }), (semaphore) => body(semaphore, calls)).pipe(
      Effect.provide(FakeBacking.layer(calls))
    )
  })
