/** Looks at a key again and again. */
import type * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ContenderState, SemaphoreState } from "../Backing.ts"

/** How often to look without a notification: the store does not notify of every change. */
const interval = "1 second"

/** The shortest pause between two looks at a key whose holders come and go all the time. */
const leastPause = "50 millis"

/** Emits each snapshot whose holders or waiters differ from those of the one before. */
export const snapshots = <E>(
  inspect: Effect.Effect<SemaphoreState, E>,
  onChanged: Stream.Stream<void> = Stream.empty
): Stream.Stream<SemaphoreState, E> =>
  Stream.merge(Stream.tick(interval), onChanged).pipe(
    Stream.buffer({ capacity: 1, strategy: "sliding" }),
    Stream.throttle({ cost: () => 1, units: 1, duration: leastPause, strategy: "shape" }),
    Stream.mapEffect(() => inspect),
    Stream.changesWith((a, b) =>
      a.holderCount === b.holderCount && a.waiterCount === b.waiterCount &&
      areSame(a.holders, b.holders) && areSame(a.line, b.line)
    )
  )

const areSame = (a: ReadonlyArray<ContenderState>, b: ReadonlyArray<ContenderState>): boolean =>
  a.length === b.length && a.every((contender, index) => isSame(contender, b[index]!))

/** The time left does not count: it changes all the time. */
const isSame = (a: ContenderState, b: ContenderState): boolean =>
  a.identifier === b.identifier && a.fencingToken === b.fencingToken && a.permits === b.permits && a.owner === b.owner
