import * as Effect from "effect/Effect"

/**
 * Calls something that may end a fiber of the application. An observer of that fiber runs within the call: what it throws is logged, and
 * stops nobody else.
 */
export const shield = (call: () => void): void => {
  try {
    call()
  } catch (error) {
    Effect.runFork(Effect.logError("An observer of a fiber threw an error", error))
  }
}
