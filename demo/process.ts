/** A worker as a process of its own, through Redis. Started by main.ts with the key and its index. */
import { Effect } from "effect"
import { Redis } from "ioredis"
import { RedisBacking } from "../src/index.ts"
import * as Worker from "./worker.ts"

const [key, index] = process.argv.slice(2)
const redis = new Redis(process.env.REDIS_URL!)

await Worker.run(key!, Number(index), (event) => process.send!(event)).pipe(
  Effect.provide(RedisBacking.layer(redis)),
  Effect.ensuring(Effect.sync(() => {
    redis.disconnect()
    process.disconnect()
  })),
  Effect.runPromise
)
