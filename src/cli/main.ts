#!/usr/bin/env node
/** The executable. It hides passwords before it does anything else, and says which packages are missing. */
import { keepSecrets, redact } from "./redact.ts"

const args = process.argv.slice(2)
for (const text of [...args, process.env.LOCK_STORE ?? ""]) keepSecrets(text)

// Other users see the arguments of a process. What follows "--" belongs to the command.
const end = args.indexOf("--")
process.title = ["effect-distributed-lock", ...args.slice(0, end === -1 ? args.length : end)].map(redact).join(" ")

// Node's warnings are for programmers: that SQLite is experimental, for one.
process.removeAllListeners("warning")

try {
  const { main } = await import("./cli.ts")
  main(args)
} catch (error) {
  if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error
  process.stderr.write(
    "effect-distributed-lock: the command line needs two packages: npm install effect @effect/platform-node\n" +
      `(${redact((error as Error).message)})\n`
  )
  process.exitCode = 196
}
