/** Locks on etcd: the one that etcd3 brings, and etcd's own recipe. */
import { EtcdLockFailedError } from "etcd3"
import { connectEtcd } from "../etcd.ts"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"

const retryMillis = 50

/** etcd3's lock does not wait: it is asked again, at random times around 50 ms. */
export const etcd3Lock = async ({ ttlMillis, url }: Setting): Promise<Client> => {
  const etcd = connectEtcd(url)
  return promiseClient(async ({ key }) => {
    for (;;) {
      const lock = etcd.lock(key).ttl(Math.ceil(ttlMillis / 1000))
      try {
        await lock.acquire()
        return () => lock.release()
      } catch (error) {
        if (!(error instanceof EtcdLockFailedError)) throw error
        await new Promise((resolve) => setTimeout(resolve, retryMillis * (0.5 + Math.random())))
      }
    }
  })
}

/**
 * client/v3/concurrency's Mutex, written on etcd3: one lease per process, one key per contender; each waits until the key
 * before its own is deleted.
 */
export const recipe = async ({ ttlMillis, url }: Setting): Promise<Client> => {
  const etcd = connectEtcd(url)
  const lease = etcd.lease(Math.ceil(ttlMillis / 1000))
  await lease.grant()
  let asked = 0
  return {
    ...promiseClient(async ({ key }) => {
      const line = `recipe/${key}/`
      const mine = `${line}${process.pid}-${asked++}`
      const { header } = await lease.put(mine).value("").exec()
      for (;;) {
        const before = await etcd.getAll().prefix(line).maxCreateRevision(Number(header.revision) - 1)
          .sort("Create", "Descend").limit(1).exec()
        const last = before.kvs[0]
        if (last === undefined) return () => etcd.delete().key(mine).exec()
        const watcher = await etcd.watch().key(last.key.toString())
          .startRevision(String(Number(before.header.revision) + 1)).create()
        await new Promise((resolve) => watcher.once("delete", resolve))
        await watcher.cancel()
      }
    }),
    // One of the contenders holds.
    waiting: async (key) => await etcd.getAll().prefix(`recipe/${key}/`).count() - 1
  }
}
