import { Redis } from "ioredis"
import { RedisBacking } from "../../../dist/index.js"
import type { Client, Setting } from "../subject.ts"
import { client } from "./client.ts"

/** `never`, because RedisBacking's types are those of the newest ioredis: the bench has the version that all subjects accept. */
export const open = (setting: Setting): Promise<Client> =>
  client(RedisBacking.layer(new Redis(setting.url) as never), setting)
