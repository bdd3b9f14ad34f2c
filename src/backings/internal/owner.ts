/** Names the process that asks, so that an operator can find it. */
import { hostname } from "node:os"
import { refuse } from "../../core/internal/options.ts"

/** The host name and the process id. */
export const defaultOwner = `${hostname()}:${process.pid}`

export const resolveOwner = (owner: string = defaultOwner): string =>
  typeof owner === "string" && owner !== "" ? owner : refuse("owner", owner, "a non-empty string")
