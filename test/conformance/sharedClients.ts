/** Clients that the cases of a file share. */
import { Effect, Exit, Scope } from "effect"
import { afterAll } from "vitest"

/**
 * Makes three clients, which the instances of all cases use in turn, and closes them in the end. Connecting anew for each instance would
 * take most of the time.
 */
export const inTurn = async <A, E>(connect: Effect.Effect<A, E, Scope.Scope>): Promise<Effect.Effect<A>> => {
  const scope = Scope.makeUnsafe()
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const clients = await Effect.runPromise(Effect.all([connect, connect, connect]).pipe(Scope.provide(scope)))
  let turn = 0
  return Effect.sync(() => clients[turn++ % clients.length]!)
}
