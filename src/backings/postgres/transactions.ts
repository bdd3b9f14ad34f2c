import type { PgClient } from "@effect/sql-pg"
import { Context, Effect } from "effect"

/**
 * Runs an effect apart from a transaction of the caller's: that might be rolled back, and what is done inside would be unseen
 * and locked until it ends.
 */
export const apart = (client: PgClient.PgClient) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateContext(
    effect,
    (context: Context.Context<R>) =>
      Context.omit(client.transactionService)(context as Context.Context<any>) as Context.Context<R>
  )
