import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/**
 * Runs an effect until the scope closes. The scope does not wait for its end: a query on a server that does not answer
 * can't be interrupted, because the request to cancel it needs the server, too.
 */
export const inBackground = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Fiber.Fiber<A, E>, never, R | Scope.Scope> =>
  Effect.acquireRelease(
    Effect.forkDetach(effect, { startImmediately: true }),
    (fiber) => Effect.sync(() => fiber.interruptUnsafe())
  )
