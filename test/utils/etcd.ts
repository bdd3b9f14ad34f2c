/** etcd servers and clients for tests. */
import { Effect } from "effect"
import { Etcd3 } from "etcd3"
import type { IOptions, ITxnRequest } from "etcd3"
import { expect } from "vitest"
import { startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"

export const server = Effect.acquireRelease(
  Effect.promise(() => startOwn(stores.etcd)),
  (server) => Effect.promise(() => server.stop())
)

/** A client of its own, until the scope closes. */
export const connect = (hosts: string | Array<string>, options: Omit<IOptions, "hosts"> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => new Etcd3({ hosts, ...options })),
    (client) => Effect.sync(() => client.close())
  )

/** The names of all keys. */
export const keys = (client: Etcd3) => Effect.promise(() => client.getAll().keys())

export const leases = (client: Etcd3) =>
  Effect.map(
    Effect.promise(() => client.leaseClient.leaseLeases()),
    ({ leases }) => leases.map(({ ID }) => ID)
  )

/** Sends a request late: its lease must be gone. */
export const findsNoLease = (client: Etcd3, request: ITxnRequest) =>
  Effect.map(
    Effect.flip(Effect.tryPromise(() => client.kv.txn(request))),
    ({ cause }) => expect(String(cause)).toContain("requested lease not found")
  )

/** What a server counts, by the names of its metrics. */
export const metrics = (url: string) =>
  Effect.promise(async () => {
    const text = await (await fetch(`${url}/metrics`)).text()
    const values: Record<string, number> = {}
    for (const [, name, value] of text.matchAll(/^(\w+(?:\{.*\})?) (\S+)$/gm)) values[name!] = Number(value)
    return values
  })
