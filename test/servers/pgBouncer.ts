/** PgBouncer in front of a PostgreSQL server, from the program on this machine. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { startBinary } from "./find.ts"
import type { Server } from "./server.ts"
import type { Program } from "./stores.ts"
import { answersPostgres, loopback, stores } from "./stores.ts"

/** It trusts `users`, as the server behind it does. */
const program = (target: Server, poolMode: "session" | "transaction", users: ReadonlyArray<string>): Program => ({
  name: "pgbouncer",
  url: stores.postgres.url,
  programs: ["pgbouncer"],
  refusesRoot: true,
  forks: false,
  prepare: () => undefined,
  args: (port, folder) => {
    const file = (name: string, lines: ReadonlyArray<string>) => {
      const path = Path.join(folder, name)
      Fs.writeFileSync(path, `${lines.join("\n")}\n`)
      return path
    }
    const userList = file("users.txt", users.map((user) => `"${user}" ""`))
    return [file("pgbouncer.ini", [
      "[databases]",
      `* = host=${loopback} port=${target.port}`,
      "[pgbouncer]",
      `listen_addr = ${loopback}`,
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = trust",
      `auth_file = ${userList}`,
      `pool_mode = ${poolMode}`
    ])]
  },
  isReady: answersPostgres
})

export const start = (
  target: Server,
  poolMode: "session" | "transaction",
  users: ReadonlyArray<string> = ["postgres"]
): Promise<Server> => startBinary(program(target, poolMode, users))
