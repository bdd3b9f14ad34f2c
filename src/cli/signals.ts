/** Signals to the command line: for the command while one runs, otherwise they end the program. */

/** Those that are passed on. */
const passed = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const

const ending: ReadonlyArray<NodeJS.Signals> = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"]

let pass: ((signal: NodeJS.Signals) => void) | undefined

/** From now on, signals go to the command. Answers how to end that. */
export const passTo = (command: (signal: NodeJS.Signals) => void): () => void => {
  pass = command
  return () => {
    pass = undefined
  }
}

/** Calls `end` for a signal that ends the program. */
export const listen = (end: (signal: NodeJS.Signals) => void): void => {
  for (const signal of passed) {
    process.on(signal, () => {
      if (pass !== undefined) pass(signal)
      else if (ending.includes(signal)) end(signal)
    })
  }
  // Ctrl-Z: who is suspended does not refresh its lease, and would lose it.
  process.on("SIGTSTP", () => {})
}
