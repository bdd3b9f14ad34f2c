import { Redis } from "ioredis"
import { RedisBacking } from "../../../dist/index.js"
import type { Client, Setting } from "../subject.ts"
import { client } from "./client.ts"

/** The type is that of the newest ioredis; the bench gives everybody one that all of them accept. */
export const open = (setting: Setting): Promise<Client> =>
  client(RedisBacking.layer(new Redis(setting.url) as never), setting)
