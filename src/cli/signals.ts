/** Handles signals: while a command runs, passes them to it; otherwise, they end the program. */

/** The signals that are passed on. */
const passed = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const

const ending: ReadonlyArray<NodeJS.Signals> = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"]

let pass: ((signal: NodeJS.Signals) => void) | undefined

/** Passes signals to the command from now on. Returns a function that ends this. */
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
  // Ignores Ctrl-Z: a suspended process does not refresh its lease, and would lose it.
  process.on("SIGTSTP", () => {})
}
