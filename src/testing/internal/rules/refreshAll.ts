/** B5: many refreshes as one, for backings that have `refreshAll`. */
import * as Effect from "effect/Effect"
import type { DistributedSemaphoreBacking, RefreshRequest } from "../../../core/Backing.ts"
import { backingCase, leaseCase } from "../../BackingCase.ts"
import { equal } from "../assert.ts"
import type { SemaphoreUnderTest, Subject } from "../subject.ts"

const requestOf = (
  { long }: Subject,
  { key }: SemaphoreUnderTest,
  holderId: string,
  token?: bigint
): RefreshRequest => ({
  key,
  holderId,
  ttl: long,
  limit: 3,
  permits: 1,
  fencingToken: token as never
})

const all = (backing: DistributedSemaphoreBacking, requests: ReadonlyArray<RefreshRequest>) =>
  backing.refreshAll?.(requests)
    ?? Effect.forEach(
      requests,
      (one) =>
        backing.refresh(one.key, one.holderId, one.ttl, one.limit, one.permits, { fencingToken: one.fencingToken })
    )

/** Leaves out of the answers what depends on the time. */
const outline = (answers: Effect.Success<ReturnType<typeof all>>) =>
  answers.map((answer) => typeof answer === "object" ? { ...answer, retryAfter: undefined } : answer)

export const cases = [
  backingCase(
    "B5",
    "refreshAll answers in order, for any keys, what single refreshes would answer",
    [],
    (subject) =>
      Effect.gen(function*() {
        const { long, options, processes } = subject
        const [one, other] = [subject.semaphore(3), subject.semaphore(3)]
        const old = yield* one.acquires("released", 1)
        yield* one.releases("released", 1)
        yield* one.acquires("released", 1)
        for (const id of ["a", "b"]) yield* one.acquires(id, 1)
        yield* other.acquires("a", 2)
        if (options.has("queue")) { for (const id of ["first", "second"]) yield* other.waits(id, 2) }

        const ids = ["b", "nobody", "first", "a", "second", "released", "a", "nobody"]
        const requests = ids.flatMap((id) => [requestOf(subject, one, id), requestOf(subject, other, id)])
        const late = options.has("tokens") ? [requestOf(subject, one, "released", old)] : []
        const asked = [...requests, ...late]
        const single = yield* Effect.forEach(
          asked,
          ({ fencingToken, holderId, key }) => processes[0]!.refresh(key, holderId, long, 3, 1, { fencingToken })
        )
        equal(outline(yield* all(processes[0]!, asked)), outline(single), "answers to all at once")
        equal(yield* all(processes[0]!, []), [], "answers to no request")
      })
  ),

  leaseCase("B5", "refreshAll extends every hold and every place", [], (subject) =>
    Effect.gen(function*() {
      const { options, processes } = subject
      const { contenders, ttl } = yield* subject.inTime((ttl) =>
        Effect.gen(function*() {
          const [one, other] = [subject.semaphore(1), subject.semaphore(1)]
          yield* one.acquires("a", 1, ttl)
          yield* other.acquires("b", 1, ttl)
          if (options.has("queue")) yield* other.waits("c", 1, ttl)
          const contenders = [[one, "a"], [other, "b"], ...options.has("queue") ? [[other, "c"] as const] : []] as const
          yield* all(processes[0]!, contenders.map(([semaphore, id]) => requestOf(subject, semaphore, id)))
          return { contenders, ttl }
        })
      )
      yield* subject.expire(ttl)
      for (const [semaphore, id] of contenders) {
        yield* id === "c" ? semaphore.stillWaits(id, 1) : semaphore.holds(id, 1)
      }
    }))
]
