/** Flags and arguments that several commands have. */
import { Argument, Flag } from "effect/cli"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"

export interface StoreFlags {
  readonly store: Option.Option<Redacted.Redacted<string>>
  readonly keyPrefix: Option.Option<string>
  readonly restartGrace: Option.Option<Duration.Duration>
  readonly schema: Option.Option<string>
  readonly tlsCa: Option.Option<string>
  readonly tlsCert: Option.Option<string>
  readonly tlsKey: Option.Option<string>
}

const units: Record<string, number> = { "": 1000, ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Reads `500ms`, `30s`, `1.5m`, `2h`, and plain seconds. */
export const durationOf = (text: string): Option.Option<Duration.Duration> => {
  const [, count, unit = ""] = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$/.exec(text.trim()) ?? []
  return count === undefined ? Option.none() : Option.some(Duration.millis(Number(count) * units[unit]!))
}

const aTime = "a time, such as 500ms, 30s, 5m or 2h"

const orVariable = <A>(flag: Flag.Flag<A>, config: Config.Config<A>, description: string, metavar: string) =>
  flag.pipe(
    Flag.withFallbackConfig(config),
    Flag.optional,
    Flag.withMetavar(metavar),
    Flag.withDescription(description)
  )

const tlsFile = (name: string, variable: string, what: string) =>
  orVariable(
    Flag.File(name),
    Config.String(variable),
    `${what}, in PEM format, for rediss://, postgres:// and etcds:// (or ${variable})`,
    "FILE"
  )

export const store = {
  store: orVariable(
    Flag.Redacted("store"),
    Config.Redacted("LOCK_STORE"),
    "The store: redis://, rediss://, postgres://, etcd://, etcds:// or sqlite:FILE. LOCK_STORE is safer for a URL with a password",
    "URL"
  ),
  keyPrefix: orVariable(
    Flag.String("key-prefix"),
    Config.String("LOCK_KEY_PREFIX"),
    "What all keys in Redis or etcd start with (or LOCK_KEY_PREFIX)",
    "PREFIX"
  ),
  restartGrace: Flag.String("restart-grace").pipe(
    Flag.withFallbackConfig(Config.String("LOCK_RESTART_GRACE")),
    Flag.filterMap(durationOf, () => aTime),
    Flag.optional,
    Flag.withMetavar("TIME"),
    Flag.withDescription(
      "How long nobody acquires after Redis has come back empty: the same as in all other processes (or LOCK_RESTART_GRACE)"
    )
  ),
  schema: orVariable(
    Flag.String("schema"),
    Config.String("LOCK_SCHEMA"),
    "The schema in PostgreSQL (or LOCK_SCHEMA)",
    "NAME"
  ),
  tlsCa: tlsFile("tls-ca", "LOCK_TLS_CA", "The certificates of the authorities to trust"),
  tlsCert: tlsFile("tls-cert", "LOCK_TLS_CERT", "The client's certificate"),
  tlsKey: tlsFile("tls-key", "LOCK_TLS_KEY", "The client's private key")
}

export const key = Argument.String("key").pipe(
  Argument.filter((key) => key !== "", () => "a key that is not empty"),
  Argument.withDescription("The key of the semaphore")
)

export const duration = (name: string) =>
  Flag.String(name).pipe(
    Flag.filterMap(durationOf, () => aTime),
    Flag.withMetavar("TIME")
  )

export const json = Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withoutNegation)
