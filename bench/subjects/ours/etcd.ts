import { Etcd3 } from "etcd3"
import { EtcdBacking } from "../../../dist/backings/etcd/index.js"
import type { Client, Setting } from "../subject.ts"
import { client } from "./client.ts"

export const open = (setting: Setting): Promise<Client> =>
  client(EtcdBacking.layer(new Etcd3({ hosts: setting.url })), setting)
