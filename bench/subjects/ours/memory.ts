import { MemoryBacking } from "../../../dist/index.js"
import type { Client, Setting } from "../subject.ts"
import { client } from "./client.ts"

export const open = (setting: Setting): Promise<Client> => client(MemoryBacking.layer, setting)
