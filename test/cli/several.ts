/**
 * Runs the program several times in one process, where only how it ends matters: most of the time of a start goes into loading
 * Effect. Gets the arguments of each run as JSON. After each it writes a line feed and its exit code to the standard output, and a
 * NUL to both outputs.
 */
import { writeSync } from "node:fs"

const { exit } = process

for (const [index, args] of JSON.parse(process.argv[2]!).entries()) {
  process.argv.splice(2, Number.POSITIVE_INFINITY, ...args)
  const code = await new Promise((resolve) => {
    process.exit = resolve as typeof exit
    void import(`../../src/cli/main.ts?${index}`)
  })
  writeSync(1, `\n${code}\0`)
  writeSync(2, "\0")
}

exit(0)
