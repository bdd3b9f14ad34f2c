import { EtcdBacking } from "../../../dist/backings/etcd/index.js"
import { connectEtcd } from "../etcd.ts"
import type { Client, Setting } from "../subject.ts"
import { client } from "./client.ts"

export const open = (setting: Setting): Promise<Client> => client(EtcdBacking.layer(connectEtcd(setting.url)), setting)
