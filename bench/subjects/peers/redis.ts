/** The other lock libraries on Redis. */
import { Redis } from "ioredis"
import { createClient } from "redis"
import { MultiSemaphore, Mutex, Semaphore } from "redis-semaphore"
import { default as Redlock } from "redlock"
import { lock } from "simple-redis-mutex"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"

const forEver = 1_000_000_000

export const mutex = async ({ ttlMillis, url }: Setting): Promise<Client> => {
  const redis = new Redis(url)
  return promiseClient(async ({ key }) => {
    const held = new Mutex(redis, key, { lockTimeout: ttlMillis, acquireTimeout: forEver })
    await held.acquire()
    return () => held.release()
  })
}

export const semaphore = async ({ limit, ttlMillis, url }: Setting): Promise<Client> => {
  const redis = new Redis(url)
  return promiseClient(async ({ key }) => {
    const held = new Semaphore(redis, key, limit, { lockTimeout: ttlMillis, acquireTimeout: forEver })
    await held.acquire()
    return () => held.release()
  })
}

export const multiSemaphore = async ({ limit, ttlMillis, url }: Setting): Promise<Client> => {
  const redis = new Redis(url)
  return promiseClient(async ({ key, permits }) => {
    const held = new MultiSemaphore(redis, key, limit, permits, { lockTimeout: ttlMillis, acquireTimeout: forEver })
    await held.acquire()
    return () => held.release()
  })
}

export const redlock = async ({ ttlMillis, url }: Setting): Promise<Client> => {
  const locks = new Redlock([new Redis(url)], { retryCount: -1 })
  locks.on("error", () => {})
  return promiseClient(async ({ key, long }) => {
    if (!long) {
      const held = await locks.acquire([key], ttlMillis)
      return () => held.release()
    }
    // Only `using` extends a lock.
    let release = () => {}
    let ended: Promise<unknown> = Promise.resolve()
    await new Promise<void>((acquired, failed) => {
      ended = locks.using([key], ttlMillis, () => {
        acquired()
        return new Promise<void>((resolve) => release = resolve)
      })
      ended.catch(failed)
    })
    return () => {
      release()
      return ended
    }
  })
}

export const simpleMutex = async ({ ttlMillis, url }: Setting): Promise<Client> => {
  const redis = await createClient({ url }).connect()
  return promiseClient(({ key }) => lock(redis as never, key, { timeout: ttlMillis }))
}
