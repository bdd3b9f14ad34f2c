import type { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/**
 * Runs an effect apart from a transaction of the caller. In that transaction, what is done might be rolled back, and
 * until the end it would be invisible to others, and locked.
 */
export const apart = (client: PgClient.PgClient) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateContext(
    effect,
    (context: Context.Context<R>) =>
      Context.omit(client.transactionService)(context as Context.Context<any>) as Context.Context<R>
  )
