/** The store that a URL names. Only the client that it needs is loaded. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { DistributedSemaphoreBacking } from "../core/Backing.ts"
import type { ClientOptions } from "./clients.ts"
import * as Clients from "./clients.ts"
import { Exit, exit } from "./exits.ts"
import { failed } from "./failures.ts"
import type { StoreFlags } from "./flags.ts"

interface Scheme {
  /** `creates` says whether to create a file or a schema that is missing. */
  readonly layer: (
    url: string,
    options: ClientOptions,
    creates: boolean
  ) => Promise<Layer.Layer<DistributedSemaphoreBacking, unknown>>
  /** The packages that the user must install. */
  readonly packages: ReadonlyArray<string>
  /** The options that it allows. */
  readonly allows: ReadonlyArray<keyof ClientOptions>
}

const redis: Scheme = { layer: Clients.redis, packages: ["ioredis"], allows: ["keyPrefix", "restartGrace"] }
const postgres: Scheme = {
  layer: Clients.postgres,
  packages: ["@effect/sql-pg"],
  allows: ["schema", "tlsCa", "tlsCert", "tlsKey"]
}
const etcd: Scheme = { layer: Clients.etcd, packages: ["etcd3"], allows: ["keyPrefix"] }
const secure = (scheme: Scheme): Scheme => ({ ...scheme, allows: [...scheme.allows, "tlsCa", "tlsCert", "tlsKey"] })

const schemes: Record<string, Scheme> = {
  redis,
  rediss: secure(redis),
  postgres,
  postgresql: postgres,
  etcd,
  etcds: secure(etcd),
  sqlite: { layer: Clients.sqlite, packages: [], allows: [] }
}

const forms = "redis://, rediss://, postgres://, etcd://, etcds:// or sqlite:FILE"

const optionNames: Record<keyof ClientOptions, string> = {
  keyPrefix: "--key-prefix",
  restartGrace: "--restart-grace",
  schema: "--schema",
  tlsCa: "--tls-ca",
  tlsCert: "--tls-cert",
  tlsKey: "--tls-key"
}

const find = Effect.fnUntraced(function*({ store, ...flags }: StoreFlags, creates: boolean) {
  const url = Option.match(store, { onNone: () => "", onSome: Redacted.value })
  if (url === "") return yield* exit("misuse", `No store is named. Give --store URL, or set LOCK_STORE: ${forms}`)
  const name = /^([a-z][a-z\d+.-]*):/i.exec(url)?.[1]?.toLowerCase() ?? ""
  const scheme = Object.hasOwn(schemes, name) ? schemes[name] : undefined
  // The message does not quote the URL: what is not understood may be a password.
  if (scheme === undefined) return yield* exit("misuse", `The store's URL is not understood. Write ${forms}`)

  const options = Object.fromEntries(
    Object.entries<Option.Option<unknown>>(flags).flatMap(([option, value]) =>
      Option.isSome(value) ? [[option, value.value]] : []
    )
  ) as ClientOptions
  for (const option of Object.keys(options) as Array<keyof ClientOptions>) {
    if (!scheme.allows.includes(option)) {
      return yield* exit("misuse", `${name} stores have no option ${optionNames[option]}`)
    }
  }
  const layer = yield* Effect.tryPromise({
    try: () => scheme.layer(url, options, creates),
    catch: (error) =>
      (error as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND"
        ? exit(
          "store",
          `${name} stores need a package that is not installed: npm install ${scheme.packages.join(" ")}`
        )
        : error instanceof Exit
        ? error
        : failed(error)
  })
  return Layer.catch(layer, (error) => Layer.effectContext(Effect.fail(failed(error))))
})

export const layer = (flags: StoreFlags, creates: boolean): Layer.Layer<DistributedSemaphoreBacking, Exit> =>
  Layer.unwrap(find(flags, creates))
