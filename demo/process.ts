/** A worker in a process of its own. main.ts starts it with the key, its index and the file, and later sends it a message to begin. */
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
