import { SqliteBacking } from "../../../dist/backings/sqlite/index.js"
import type { Client, Setting } from "../subject.ts"
import { client } from "./client.ts"

export const open = (setting: Setting): Promise<Client> =>
  client(SqliteBacking.layer({ filename: setting.url }), setting)
