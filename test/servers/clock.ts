/** A PostgreSQL server on this machine whose clock a test can set, through libfaketime. */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { startBinary } from "./find.ts"
import type { Server } from "./server.ts"
import { stores } from "./stores.ts"

export interface ServerWithClock extends Server {
  /** Makes the server's wall clock differ from ours by so many seconds. */
  readonly setClock: (seconds: number) => void
}

/** Finds the library, which is in a folder of the machine's architecture. */
const library = () => {
  const folder = Fs.readdirSync("/usr/lib").find((name) => Fs.existsSync(`/usr/lib/${name}/faketime/libfaketime.so.1`))
  return `/usr/lib/${folder}/faketime/libfaketime.so.1`
}

export const start = async (): Promise<ServerWithClock> => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "edl-clock-"))
  Fs.chmodSync(folder, 0o755)
  const file = Path.join(folder, "clock")
  const setClock = (seconds: number) => {
    // In one step: the server must not read half of it.
    Fs.writeFileSync(`${file}.new`, `${seconds < 0 ? "" : "+"}${seconds}\n`)
    Fs.renameSync(`${file}.new`, file)
  }
  setClock(0)
  const server = await startBinary({
    ...stores.postgres,
    programs: [...stores.postgres.programs, "faketime"],
    get variables() {
      return {
        LD_PRELOAD: library(),
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_NO_CACHE: "1",
        // Timers are not changed, just as when a clock is set.
        FAKETIME_DONT_FAKE_MONOTONIC: "1"
      }
    }
  })
  return {
    ...server,
    setClock,
    stop: async () => {
      await server.stop()
      Fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}
