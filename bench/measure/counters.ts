/** What the store has counted since it was started. */
import * as Http from "node:http"
import type { Subject } from "../subjects/subject.ts"
import { untracked } from "./sockets.ts"

export interface Counts {
  /** Requests that clients sent. */
  readonly requests: number
  /** Durable writes: commits of PostgreSQL that wrote something, proposals that etcd applied. */
  readonly writes?: number
  readonly walBytes?: number
}

export type Counters = () => Promise<Counts>

const ofRedis = async (url: string, commands: ReadonlyArray<string>): Promise<Counters> => {
  const { Redis } = await import("ioredis")
  const redis = new Redis(url)
  await redis.ping()
  return async () => {
    const calls = Array.from((await redis.info("commandstats")).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm))
    return {
      requests: calls.reduce((sum, [, name, count]) => commands.includes(name!) ? sum + Number(count) : sum, 0)
    }
  }
}

const postgresCounts = `select
  (select coalesce(sum(calls), 0)::float8 from pg_stat_statements where query not like '%pg_stat_statements%') as requests,
  pg_snapshot_xmax(pg_current_snapshot())::text::float8 as writes,
  (pg_current_wal_insert_lsn() - '0/0')::float8 as "walBytes"`

const ofPostgres = async (url: string): Promise<Counters> => {
  const { default: Pg } = await import("pg")
  const session = new Pg.Client({ connectionString: url })
  await session.connect()
  return async () => (await session.query(postgresCounts)).rows[0]
}

const metricsOf = (url: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const createConnection = () => untracked(Number(port), hostname)
    Http.get(`${url}/metrics`, { createConnection }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (chunk) => text += chunk).on("end", () => resolve(text))
    }).on("error", reject)
  })

const etcdRequests =
  /^grpc_server_msg_received_total\{grpc_method="(?:Txn|Put|Range|DeleteRange|Watch|LeaseGrant|LeaseRevoke|LeaseKeepAlive)"[^}]*\} (\S+)/gm
const etcdWrites = /^etcd_server_proposals_applied_total (\S+)/gm

const ofEtcd = async (url: string): Promise<Counters> => {
  const sum = (text: string, metric: RegExp) =>
    Array.from(text.matchAll(metric)).reduce((sum, [, value]) => sum + Number(value), 0)
  return async () => {
    const text = await metricsOf(url)
    return { requests: sum(text, etcdRequests), writes: sum(text, etcdWrites) }
  }
}

export const open = (subject: Subject, url: string): Promise<Counters> => {
  switch (subject.store) {
    case "memory":
    case "sqlite":
      return Promise.resolve(async () => ({ requests: 0 }))
    case "redis":
      return ofRedis(url, subject.commands!)
    case "postgres":
      return ofPostgres(url)
    case "etcd":
      return ofEtcd(url)
  }
}
