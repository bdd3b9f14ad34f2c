/** Describes for an operator what happened between snapshots. */
import type { SemaphoreState } from "../core/Backing.ts"
import { visible } from "./output.ts"

/** How many lines are kept. */
const most = 6

interface Seen {
  readonly name: string
  readonly state: "holds" | "waits"
}

export class News {
  readonly lines: Array<string> = []
  /** The contenders of the last snapshot, by token. */
  private before: ReadonlyMap<bigint, Seen> | undefined

  see({ holders, line }: SemaphoreState, time: string): void {
    const now = new Map<bigint, Seen>()
    for (const { fencingToken, identifier } of holders) now.set(fencingToken, { name: identifier, state: "holds" })
    for (const { fencingToken, identifier } of line) now.set(fencingToken, { name: identifier, state: "waits" })
    const say = (name: string, what: string) => this.lines.push(`${time}Z  ${visible(name)} ${what}`)
    if (this.before !== undefined) {
      for (const [token, { name, state }] of this.before) {
        if (!now.has(token)) say(name, `${state} no more`)
      }
      for (const [token, { name, state }] of now) {
        if (this.before.get(token)?.state !== state) say(name, state === "holds" ? `holds, token ${token}` : "waits")
      }
    }
    this.before = now
    this.lines.splice(0, this.lines.length - most)
  }
}
