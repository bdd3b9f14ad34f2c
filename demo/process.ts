/** A worker as a process of its own. Started by main.ts with the key, its index and the file; it begins when it is told to. */
import { Effect } from "effect"
import * as Stores from "./stores.ts"
import * as Worker from "./worker.ts"

const [key, index, filename] = process.argv.slice(2) as [string, string, string]

const { layer } = await Stores.find(filename)
const begin = new Promise((resolve) => process.once("message", resolve))
process.send!("ready")
await begin

await Worker.run(key, Number(index), (event) => process.send!(event)).pipe(
  Effect.provide(layer),
  Effect.ensuring(Effect.sync(() => process.disconnect())),
  Effect.runPromise
)
