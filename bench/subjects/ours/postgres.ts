import { PgClient } from "@effect/sql-pg"
import { PostgresBacking } from "../../../dist/backings/postgres/index.js"
import { Layer, Redacted } from "../effect.ts"
import type { Client, Setting } from "../subject.ts"
import { client } from "./client.ts"

export const open = (setting: Setting): Promise<Client> =>
  client(Layer.provide(PostgresBacking.layer(), PgClient.layer({ url: Redacted.make(setting.url) })), setting)
