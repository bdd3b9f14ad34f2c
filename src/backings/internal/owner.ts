/** The process that asks, so that an operator finds it. */
import { hostname } from "node:os"

/** The host name and the process id. */
export const defaultOwner = `${hostname()}:${process.pid}`
