/** Advisory locks of PostgreSQL over `pg`: a session for each caller. */
import { Client as Session, Pool } from "pg"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"

/** What the server that the bench starts allows, less a few for the bench. */
const mostConnections = 1100

export const open = async ({ callers, url }: Setting): Promise<Client> => {
  const pool = new Pool({ connectionString: url, max: Math.min(callers, mostConnections), idleTimeoutMillis: 0 })
  pool.on("error", () => {})
  const open = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()))
  for (const connection of open) connection.release()
  return {
    ...promiseClient(async ({ key }) => {
      const session = await pool.connect()
      await session.query({ name: "lock", text: "select pg_advisory_lock(hashtextextended($1, 0))", values: [key] })
      return async () => {
        await session.query({
          name: "unlock",
          text: "select pg_advisory_unlock(hashtextextended($1, 0))",
          values: [key]
        })
        session.release()
      }
    }),
    waiting: async () => pool.waitingCount + await waitingSessions(url)
  }
}

const waitingSessions = async (url: string): Promise<number> => {
  const session = new Session({ connectionString: url })
  await session.connect()
  const { rows } = await session.query(
    "select count(*)::int as count from pg_locks where locktype = 'advisory' and not granted"
  )
  await session.end()
  return rows[0].count
}
