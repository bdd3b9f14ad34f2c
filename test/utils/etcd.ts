/** etcd servers and clients for tests. */
import { Effect } from "effect"
import { Etcd3, Range } from "etcd3"
import type { IOptions, ITxnRequest } from "etcd3"
import { generateKeyPairSync } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect } from "vitest"
import * as Docker from "../servers/docker.ts"
import { startBinary, startOwn } from "../servers/find.ts"
import { stores } from "../servers/stores.ts"

export const server = Effect.acquireRelease(
  Effect.promise(() => startOwn(stores.etcd)),
  (server) => Effect.promise(() => server.stop())
)

/** A server whose authentication tokens are JSON Web Tokens, which name the revision of its users and roles. */
export const serverWithJwt = Effect.acquireRelease(
  Effect.promise(async () => {
    const keys = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      publicKeyEncoding: { type: "spki", format: "pem" },
      privateKeyEncoding: { type: "pkcs1", format: "pem" }
    })
    const folder = mkdtempSync(join(tmpdir(), "edl-jwt-"))
    const [publicKey, privateKey] = [join(folder, "public.pem"), join(folder, "private.pem")]
    writeFileSync(publicKey, keys.publicKey)
    writeFileSync(privateKey, keys.privateKey)
    const flags = ["--auth-token", `jwt,pub-key=${publicKey},priv-key=${privateKey},sign-method=RS256,ttl=10m`]
    const server = await Docker.isAvailable()
      ? await Docker.start(stores.etcd, (definition) =>
        definition
          .withCopyContentToContainer([
            { content: keys.publicKey, target: publicKey },
            { content: keys.privateKey, target: privateKey }
          ])
          .withCommand([...stores.etcd.command, ...flags]))
      : await startBinary(stores.etcd, flags)
    return { server, folder }
  }),
  ({ folder, server }) =>
    Effect.promise(async () => {
      await server.stop()
      rmSync(folder, { recursive: true })
    })
).pipe(Effect.map(({ server }) => server))

/** Switches authentication on, with a user that may read and write below the prefix of semaphores, and nothing else. */
export const enableAuthentication = (admin: Etcd3) =>
  Effect.promise(async () => {
    const role = await admin.role("semaphores").create()
    await role.grant({ permission: "Readwrite", range: Range.prefix("semaphore/") })
    const user = await admin.user("app").create("secret")
    await user.addRole("semaphores")
    const root = await admin.user("root").create("root")
    await root.addRole("root")
    await admin.auth.authEnable()
  })

/** Makes a client, which is closed with the scope. */
export const connect = (hosts: string | Array<string>, options: Omit<IOptions, "hosts"> = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => new Etcd3({ hosts, ...options })),
    (client) => Effect.sync(() => client.close())
  )

/** Lists the names of all keys. */
export const keys = (client: Etcd3) => Effect.promise(() => client.getAll().keys())

export const leases = (client: Etcd3) =>
  Effect.map(
    Effect.promise(() => client.leaseClient.leaseLeases()),
    ({ leases }) => leases.map(({ ID }) => ID)
  )

/** Sends a request that is late: its lease must be gone. */
export const findsNoLease = (client: Etcd3, request: ITxnRequest) =>
  Effect.map(
    Effect.flip(Effect.tryPromise(() => client.kv.txn(request))),
    ({ cause }) => expect(String(cause)).toContain("requested lease not found")
  )

/** Returns what a server counts, by the names of its metrics. */
export const metrics = (url: string) =>
  Effect.promise(async () => {
    const text = await (await fetch(`${url}/metrics`)).text()
    const values: Record<string, number> = {}
    for (const [, name, value] of text.matchAll(/^(\w+(?:\{.*\})?) (\S+)$/gm)) values[name!] = Number(value)
    return values
  })
