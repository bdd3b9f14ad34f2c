/** Checks the diagrams and the doc comments, and writes the API reference to .tmp/reference. */
import { writeReference } from "./api.ts"
import { brokenDiagrams } from "./diagrams.ts"

const problems = [...await brokenDiagrams(), ...await writeReference()]
for (const problem of problems) console.error(problem)
process.exitCode = problems.length === 0 ? 0 : 1
