/** Floors on etcd. */
import { connectEtcd } from "../etcd.ts"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"
import { baton } from "./baton.ts"

export const put = async ({ url }: Setting): Promise<Client> => {
  const etcd = connectEtcd(url)
  return promiseClient(async ({ key }) => () => etcd.put(`floor/${key}`).value("").exec())
}

export const putToEvent = async ({ url }: Setting): Promise<Client> => {
  const etcd = connectEtcd(url)
  const { arrived, client } = baton((key) => etcd.put(`arrivals/${key}`).value("").exec())
  const watcher = await etcd.watch().prefix("arrivals/").create()
  watcher.on("put", ({ key }) => arrived(key.toString().slice("arrivals/".length)))
  return client
}
