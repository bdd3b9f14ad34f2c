/** Floors on Redis. */
import { Redis } from "ioredis"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"
import { baton } from "./baton.ts"

const moveOwner = `
redis.call('zrem', KEYS[1], ARGV[1])
redis.call('zadd', KEYS[1], ARGV[2], ARGV[1])
redis.call('pexpire', KEYS[1], 30000)
return redis.call('zcard', KEYS[1])`

export const twoScripts = async ({ url }: Setting): Promise<Client> => {
  const redis = new Redis(url)
  const sha = await redis.script("LOAD", moveOwner) as string
  const ask = (key: string) => redis.evalsha(sha, 1, key, "holder", 1)
  return promiseClient(async ({ key }) => {
    await ask(key)
    return () => ask(key)
  })
}

export const scriptAndPublish = async ({ url }: Setting): Promise<Client> => {
  const redis = new Redis(url)
  const subscriber = new Redis(url)
  const sha = await redis.script("LOAD", `redis.call('publish', 'arrivals', KEYS[1]) ${moveOwner}`) as string
  const { arrived, client } = baton((key) => redis.evalsha(sha, 1, key, "holder", 1))
  await subscriber.subscribe("arrivals")
  subscriber.on("message", (_, key) => arrived(key))
  return client
}
